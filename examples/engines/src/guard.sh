# Standard input is a pipe that the harness holds: `add ID` and `drop ID` name the
# servers it has started. When the harness ends without `done`, as by SIGKILL, the
# pipe ends: then every server is killed with all that descends from it, and the
# directory is removed.
trap '' HUP INT TERM
dir=$1
family=" "
while read -r word id; do
    case $word in
        add) family="$family$id " ;;
        drop)
            case $family in
                *" $id "*) family="${family%% "$id" *} ${family#* "$id" }" ;;
            esac
            ;;
        done) exit 0 ;;
    esac
done

# Stopped first, so that they fork no more while their children are looked for.
for id in $family; do
    kill -STOP "$id" 2>/dev/null
done
grew=1
while [ "$grew" ]; do
    grew=
    for stat in /proc/[0-9]*/stat; do
        id=${stat#/proc/}
        id=${id%/stat}
        { read -r line <"$stat"; } 2>/dev/null || continue
        # Behind the name: state, parent, and more.
        set -- ${line##*\) }
        case $family in *" $id "*) continue ;; esac
        case $family in *" $2 "*) family="$family$id " grew=1 ;; esac
    done
done
for id in $family; do
    kill -KILL "$id" 2>/dev/null
done

# What a killed PostgreSQL leaves outside of its directory.
for file in "$dir"/*/data/postmaster.pid; do
    [ -f "$file" ] || continue
    set -- $(sed -n 7p "$file")
    [ -z "$2" ] || ipcrm -m "$2" 2>/dev/null
done
tries=0
while [ -e "$dir" ] && [ $tries -lt 200 ]; do
    rm -rf "$dir" 2>/dev/null
    tries=$((tries + 1))
    [ ! -e "$dir" ] || sleep 0.05
done
