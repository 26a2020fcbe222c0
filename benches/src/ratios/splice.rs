//! Replacing the table in a document.

/// The line before the table.
pub const BEGIN: &str = "<!-- ratios: begin, written by `make bench` -->";
/// The line after the table.
pub const END: &str = "<!-- ratios: end -->";

/// `document` with what stands between [`BEGIN`] and [`END`] replaced by `table`.
///
/// # Errors
///
/// When a marker is missing, stands there twice, or the end comes before the beginning.
pub fn splice(document: &str, table: &str) -> Result<String, String> {
    splice_between(document, BEGIN, END, table)
}

/// The same between other markers.
///
/// # Errors
///
/// When a marker is missing, stands there twice, or the end comes before the beginning.
pub fn splice_between(
    document: &str,
    begin: &str,
    end: &str,
    table: &str,
) -> Result<String, String> {
    let place = |marker: &str| {
        let mut places = document.match_indices(marker);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Ok(place),
            (None, _) => Err(format!("the line `{marker}` is missing")),
            (Some(_), Some(_)) => Err(format!("the line `{marker}` is there twice")),
        }
    };
    let from = place(begin)? + begin.len();
    let to = place(end)?;
    if to < from {
        return Err(format!("`{end}` comes before `{begin}`"));
    }
    let (before, after) = (&document[..from], &document[to..]);
    Ok(format!("{before}\n\n{}\n\n{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced_and_twice_is_once() {
        let document = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n");
        let once = splice(&document, "| new |\n").unwrap();
        assert_eq!(
            once,
            format!("# Title\n\n{BEGIN}\n\n| new |\n\n{END}\n\nrest\n")
        );
        assert_eq!(splice(&once, "| new |\n"), Ok(once.clone()));
    }

    #[test]
    fn a_document_without_both_markers_in_order_is_left_alone() {
        for document in [
            String::new(),
            BEGIN.to_owned(),
            format!("{END}\n{BEGIN}"),
            format!("{BEGIN}\n{BEGIN}\n{END}"),
        ] {
            assert!(splice(&document, "| new |").is_err(), "{document}");
        }
    }

    #[test]
    fn the_readmes_have_a_place_for_the_table() {
        for readme in [
            include_str!("../../../README.md"),
            include_str!("../../../webhook-verify/README.md"),
        ] {
            assert!(splice(readme, "| new |").is_ok());
        }
        let gateway = include_str!("../../../gateway-kit/README.md");
        let (begin, end) = (crate::proxies::BEGIN, crate::proxies::END);
        assert!(splice_between(gateway, begin, end, "| new |").is_ok());
    }
}
