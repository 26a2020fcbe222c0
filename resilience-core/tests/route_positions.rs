//! Positions and tokens: read and written exactly, compared as far as the engines go.

use proptest::prelude::*;
use resilience_core::route::*;

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

fn state(text: &str) -> GtidSet {
    GtidSet::state(text).unwrap()
}

fn last(text: &str) -> GtidSet {
    GtidSet::last(text).unwrap()
}

const ONE: &str = "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb";
const TWO: &str = "0123456789abcdef0123456789abcdef01234567";

fn offset(text: String) -> Offset {
    text.parse().unwrap()
}

#[test]
fn a_log_sequence_number_is_as_postgres_writes_it() {
    assert_eq!(lsn("16/B374D848"), Lsn(0x16_B374_D848));
    assert_eq!(lsn("0/0").to_string(), "0/0");
    assert_eq!(lsn("FFFFFFFF/FFFFFFFF"), Lsn(u64::MAX));
    for garbage in [
        "",
        "/",
        "1",
        "1/",
        "/1",
        "1/2/3",
        "G/1",
        "1/+1",
        "123456789/0",
        " 1/2",
        "1/2 ",
    ] {
        assert!(garbage.parse::<Lsn>().is_err(), "{garbage}");
    }
}

#[test]
fn a_token_behind_the_header_of_an_empty_page_is_rounded_to_the_border() {
    const SEGMENT: u64 = 16 << 20;
    let round = |text: &str| lsn(text).at_page_border(SEGMENT).to_string();
    // As seen of PostgreSQL 15: pages of 8 KiB with headers of 24 bytes, 40 at a segment's start.
    assert_eq!(round("0/3002018"), "0/3002000");
    assert_eq!(round("0/3000028"), "0/3000000");
    // A record ends there, as no header of that length is there.
    assert_eq!(round("0/3002028"), "0/3002028");
    assert_eq!(round("0/3000018"), "0/3000018");
    assert_eq!(round("0/3002000"), "0/3002000");
    assert_eq!(Lsn(24).at_page_border(0), Lsn(0));
}

#[test]
fn timelines_and_histories_are_those_of_postgres() {
    assert_eq!(parse_timeline("0000000A"), Ok(10));
    assert_eq!(parse_timeline("000000020000000000000003"), Ok(2));
    for garbage in ["", "00000000", "2", "0000000G", "000000020000"] {
        assert!(parse_timeline(garbage).is_err(), "{garbage}");
    }
    let text =
        "1\t0/3000158\tno recovery target specified\n\n# a note\n2\t0/5000000\tbefore 2026\n";
    let forks = parse_history(text).unwrap();
    let fork = |epoch, text| Fork {
        epoch,
        position: lsn(text),
    };
    assert_eq!(forks, [fork(1, "0/3000158"), fork(2, "0/5000000")]);
    assert_eq!(parse_history("").unwrap(), []);
    for garbage in ["1", "x 0/1", "1 0", "2 0/1\n1 0/2", "1 0/1\n1 0/2", "0 0/1"] {
        assert!(parse_history(garbage).is_err(), "{garbage}");
    }
}

#[test]
fn a_set_of_ids_covers_what_its_servers_wrote() {
    let node = state("0-1-95,0-2-110,3-1-7");
    assert_eq!(node.covers(&last("0-1-95")), Coverage::Yes);
    assert_eq!(node.covers(&last("0-2-100,3-1-7")), Coverage::Yes);
    assert_eq!(
        node.covers(&last("0-1-113,3-1-9")),
        Coverage::NotYet { gap: 5 }
    );
    assert_eq!(node.covers(&last("4-1-2")), Coverage::NotYet { gap: 2 });
    assert_eq!(node.covers(&last("")), Coverage::Yes);
    // Server 2 went on from 0-1-95: 0-1-100 is lost.
    assert_eq!(node.covers(&last("0-1-100")), Coverage::Diverged);
    assert_eq!(node.covers(&last("0-1-100,3-1-99")), Coverage::Diverged);
}

#[test]
fn last_ids_alone_do_not_tell_what_another_server_wrote() {
    let node = last("0-2-110");
    assert_eq!(node.covers(&last("0-2-110")), Coverage::Yes);
    assert_eq!(node.covers(&last("0-1-100")), Coverage::Unknown);
    assert_eq!(node.covers(&last("0-1-111")), Coverage::NotYet { gap: 1 });
}

#[test]
fn a_set_of_ids_is_read_exactly() {
    assert_eq!(
        state(" 1-1-1,\n0-2-3,0-1-2 ").to_string(),
        "0-1-2,0-2-3,1-1-1"
    );
    assert_eq!(state("").ids(), []);
    for garbage in [
        "0-1",
        "0-1-2-3",
        "a-1-2",
        "0-1-2,",
        "0-1--2",
        "00-1-2",
        "4294967296-1-1",
        "0-1-2,0-1-3",
    ] {
        assert!(GtidSet::state(garbage).is_err(), "{garbage}");
    }
    assert!(
        GtidSet::last("0-1-2,0-2-3").is_err(),
        "a domain that comes twice"
    );
}

#[test]
fn an_offset_is_compared_within_its_history_and_the_one_before() {
    let node = offset(format!("{TWO}:500,{ONE}:401"));
    let wanted = |id: &str, at: u64| offset(format!("{id}:{at}"));
    assert_eq!(node.covers(&wanted(TWO, 500)), Coverage::Yes);
    assert_eq!(node.covers(&wanted(TWO, 510)), Coverage::NotYet { gap: 10 });
    assert_eq!(node.covers(&wanted(ONE, 400)), Coverage::Yes);
    assert_eq!(node.covers(&wanted(ONE, 401)), Coverage::Diverged);
    assert_eq!(node.covers(&wanted(&"0".repeat(40), 1)), Coverage::Unknown);
    let behind = offset(format!("{TWO}:300,{ONE}:401"));
    assert_eq!(
        behind.covers(&wanted(ONE, 400)),
        Coverage::NotYet { gap: 100 }
    );
}

#[test]
fn offsets_are_taken_from_info() {
    let primary = format!(
        "# Replication\r\nrole:master\r\nconnected_slaves:1\r\nmaster_replid:{TWO}\r\n\
         master_replid2:{ONE}\r\nmaster_repl_offset:500\r\nsecond_repl_offset:401\r\n"
    );
    let expected = offset(format!("{TWO}:500,{ONE}:401"));
    assert_eq!(Offset::from_info(&primary), Ok(expected));
    let replica = format!(
        "role:slave\nslave_read_repl_offset:90\nslave_repl_offset:80\nmaster_replid:{ONE}\n\
         master_replid2:{}\nmaster_repl_offset:99\nsecond_repl_offset:-1\n",
        "0".repeat(40)
    );
    assert_eq!(Offset::from_info(&replica), Ok(offset(format!("{ONE}:80"))));
    assert_eq!(expected.without_before(), offset(format!("{TWO}:500")));
    assert!(Offset::from_info("").is_err());
    assert!(Offset::from_info(&primary.replace("role:master", "role:sentinel")).is_err());
    for garbage in ["", ":", "ab:1"] {
        assert!(garbage.parse::<Offset>().is_err(), "{garbage}");
    }
    assert!(
        format!("{}:1", ONE.to_uppercase())
            .parse::<Offset>()
            .is_err()
    );
    assert!(format!("{ONE}:+1").parse::<Offset>().is_err());
}

#[test]
fn a_counter_is_a_plain_number() {
    assert_eq!("18446744073709551615".parse(), Ok(Counter(u64::MAX)));
    assert_eq!(Counter(7).to_string(), "7");
    assert_eq!(Counter(3).covers(&Counter(5)), Coverage::NotYet { gap: 2 });
    for garbage in ["", "-1", "+1", "01", "1.0", "18446744073709551616"] {
        assert!(garbage.parse::<Counter>().is_err(), "{garbage}");
    }
}

#[test]
fn a_token_has_the_form_that_is_documented() {
    let token = Token {
        cluster: 0x0102_0304_0506_0708,
        epoch: 9,
        position: Lsn(0x0A0B),
    };
    let bytes = token.encode().unwrap();
    let expected = [
        1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 11,
    ];
    assert_eq!(bytes, expected);
    assert_eq!(Token::decode(&bytes), Ok(token));
}

#[test]
fn garbage_is_no_token() {
    let token = Token {
        cluster: 1,
        epoch: 2,
        position: Lsn(3),
    };
    let bytes = token.encode().unwrap();
    for end in 0..bytes.len() {
        assert_eq!(
            Token::<Lsn>::decode(&bytes[..end]),
            Err(TokenError::Malformed),
            "{end}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Token::<Lsn>::decode(&longer), Err(TokenError::Malformed));
    let mut other = bytes.clone();
    other[0] = 2;
    assert_eq!(
        Token::<Lsn>::decode(&other),
        Err(TokenError::Version { found: 2 })
    );
    assert_eq!(
        Token::<Counter>::decode(&bytes),
        Err(TokenError::Kind { found: 1 })
    );
    assert_eq!(Token::<Lsn>::decode(&[1; 513]), Err(TokenError::TooLong));
    // The ids of a set come in one order, and each once.
    let set = Token {
        cluster: 1,
        epoch: 1,
        position: state("0-1-1,0-2-2"),
    };
    let bytes = set.encode().unwrap();
    let mut swapped = bytes.clone();
    let (first, second) = swapped[19..].split_at_mut(16);
    first.swap_with_slice(second);
    assert_eq!(
        Token::<GtidSet>::decode(&swapped),
        Err(TokenError::Malformed)
    );
}

#[test]
fn a_token_that_is_too_long_is_not_written() {
    let set = |many: u32| {
        let ids: Vec<String> = (0..many).map(|domain| format!("{domain}-1-1")).collect();
        Token {
            cluster: 1,
            epoch: 1,
            position: last(&ids.join(",")),
        }
    };
    let longest = set(30).encode().unwrap();
    assert!(longest.len() <= MAX_TOKEN);
    assert_eq!(Token::decode(&longest), Ok(set(30)));
    assert_eq!(set(31).encode(), Err(TokenError::TooLong));
}

proptest! {
    #[test]
    fn positions_are_read_as_they_are_written(at: u64, id: [u8; 20], before: Option<([u8; 20], u64)>) {
        prop_assert_eq!(Lsn(at).to_string().parse(), Ok(Lsn(at)));
        prop_assert_eq!(Counter(at).to_string().parse(), Ok(Counter(at)));
        let hex = |id: [u8; 20]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut text = format!("{}:{at}", hex(id));
        if let Some((id, end)) = before {
            text += &format!(",{}:{end}", hex(id));
        }
        let read: Offset = text.parse().unwrap();
        prop_assert_eq!(read.to_string(), text);
        let token = Token { cluster: at, epoch: at, position: read };
        prop_assert_eq!(Token::decode(&token.encode().unwrap()), Ok(token));
    }

    /// Whatever is taken for a token is what would be written for it.
    #[test]
    fn bytes_are_a_token_in_one_form_only(
        kind in 1_u8..5,
        rest in prop::collection::vec(any::<u8>(), 0..120),
        zeros in 0_usize..40,
    ) {
        let mut bytes = vec![1, kind];
        bytes.extend(vec![0; zeros]);
        bytes.extend(rest);
        fn check<P: Position>(bytes: &[u8]) -> Result<(), TestCaseError> {
            if let Ok(token) = Token::<P>::decode(bytes) {
                prop_assert_eq!(token.encode().unwrap(), bytes);
            }
            Ok(())
        }
        check::<Lsn>(&bytes)?;
        check::<GtidSet>(&bytes)?;
        check::<Offset>(&bytes)?;
        check::<Counter>(&bytes)?;
    }

    #[test]
    fn any_text_is_a_position_or_none(text in "[-0-9a-fA-F/:, x]{0,30}") {
        let _ = text.parse::<Lsn>();
        let _ = text.parse::<Offset>();
        let _ = text.parse::<Counter>();
        let _ = Offset::from_info(&text);
        let _ = parse_history(&text);
        let _ = parse_timeline(&text);
        if let Ok(set) = GtidSet::state(&text) {
            prop_assert_eq!(GtidSet::state(&set.to_string()), Ok(set));
        }
    }

    /// A state that holds each write up to some number, by server: by the plainest set there is.
    #[test]
    fn a_state_covers_exactly_what_was_written(
        writers in prop::collection::vec(1_u32..4, 1..30),
        server in 1_u32..4,
        sequence in 1_u64..40,
    ) {
        let mut highest = std::collections::BTreeMap::new();
        for (index, writer) in writers.iter().enumerate() {
            highest.insert(*writer, index as u64 + 1);
        }
        let ids: Vec<String> = highest.iter().map(|(server, at)| format!("0-{server}-{at}")).collect();
        let coverage = state(&ids.join(",")).covers(&last(&format!("0-{server}-{sequence}")));
        let end = writers.len() as u64;
        match writers.get(sequence as usize - 1) {
            Some(writer) if *writer == server => prop_assert_eq!(coverage, Coverage::Yes),
            // A server that wrote later may have written this too, as far as the set tells.
            Some(_) => prop_assert!(matches!(coverage, Coverage::Yes | Coverage::Diverged)),
            None => prop_assert_eq!(coverage, Coverage::NotYet { gap: sequence - end }),
        }
    }
}
