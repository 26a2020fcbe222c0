//! The reader of structured fields beside `sfv`, which follows the RFC to the letter.

use http::HeaderMap;
use proptest::prelude::*;
use sfv::{BareItem, Dictionary, FieldType, InnerList, Item, ListEntry, Parser, Version};

use super::{
    input::{SIGNATURE, SIGNATURE_INPUT, signatures},
    sf::{self, Fault, Member, Value, dictionary},
};

fn peer(text: &str) -> Option<Dictionary> {
    let parser = Parser::new(text).with_version(Version::Rfc8941);
    parser.parse().ok()
}

fn same_value(ours: &Value<'_>, theirs: &BareItem) -> bool {
    match (ours, theirs) {
        (Value::Integer(ours), BareItem::Integer(theirs)) => *ours == i64::from(*theirs),
        (Value::Text(ours), BareItem::String(theirs)) => **ours == *theirs.as_str(),
        (Value::Bytes(ours), BareItem::ByteSequence(theirs)) => ours == theirs,
        (Value::Other, BareItem::Decimal(_) | BareItem::Token(_) | BareItem::Boolean(_)) => true,
        _ => false,
    }
}

fn same_parameters(ours: &sf::Parameters<'_>, theirs: &sfv::Parameters) -> bool {
    let pairs = || ours.iter().zip(theirs);
    ours.len() == theirs.len()
        && pairs()
            .all(|((name, value), (key, other))| *name == key.as_str() && same_value(value, other))
}

fn same_item(ours: &sf::Item<'_>, theirs: &Item) -> bool {
    same_value(&ours.value, &theirs.bare_item) && same_parameters(&ours.parameters, &theirs.params)
}

fn same_member(ours: &Member<'_>, theirs: &ListEntry) -> bool {
    match (ours, theirs) {
        (Member::Item(ours), ListEntry::Item(theirs)) => same_item(ours, theirs),
        (Member::List(ours, parameters), ListEntry::InnerList(InnerList { items, params })) => {
            ours.len() == items.len()
                && ours
                    .iter()
                    .zip(items)
                    .all(|(ours, theirs)| same_item(ours, theirs))
                && same_parameters(parameters, params)
        }
        _ => false,
    }
}

/// What ours reads, the peer reads alike; what the peer writes, ours reads.
fn compare(text: &str) -> Result<(), TestCaseError> {
    let theirs = peer(text);
    match (dictionary(text, 16), &theirs) {
        (Ok(ours), Some(theirs)) => {
            prop_assert_eq!(ours.len(), theirs.len());
            for ((key, member), (name, other)) in ours.iter().zip(theirs) {
                prop_assert_eq!(*key, name.as_str());
                prop_assert!(same_member(member, other), "{:?} {:?}", member, other);
            }
        }
        (Ok(ours), None) => prop_assert!(false, "only ours reads {:?}", ours),
        (Err(_), _) => {}
    }
    if let Some(canonical) = theirs.and_then(|theirs| theirs.serialize()) {
        let ours = dictionary(&canonical, 16);
        prop_assert!(matches!(ours, Ok(_) | Err(Fault::TooMany)), "{canonical}");
    }
    Ok(())
}

/// A dictionary, and what is nearly one.
fn text() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "-?[0-9]{1,4}",
        "-?[0-9]{1,3}\\.[0-9]{1,3}",
        "\"([ !#-Z^-~]|\\\\\"|\\\\\\\\){0,4}\"",
        ":[A-D]{4}:",
        ":([A-D]{3}=|[A-D]{2}==|[A-D]{2}|[A-D]{3})?:",
        "[*A-Za-z][a-z:/!]{0,3}",
        "\\?[01]",
    ];
    let parameters = prop::collection::vec(
        ("; ?[a-c]", prop::option::of(value.clone())).prop_map(pair),
        0..3,
    );
    let parameters = parameters.prop_map(|all| all.concat());
    let item = (value, parameters.clone()).prop_map(|(value, rest)| value + &rest);
    let list = (
        prop::collection::vec(item.clone(), 0..4),
        "[ ]{1,2}",
        parameters,
    )
        .prop_map(|(items, space, rest)| format!("({}){rest}", items.join(&space)));
    let member = (
        "[a-d*][a-d0-9_.*-]{0,1}",
        prop::option::of(prop_oneof![item, list]),
    );
    let member = member.prop_map(pair);
    let members = (prop::collection::vec(member, 0..4), " ?,[ \t]?");
    members.prop_map(|(members, comma)| members.join(&comma))
}

fn pair((key, value): (String, Option<String>)) -> String {
    match value {
        Some(value) => format!("{key}={value}"),
        None => key,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn dictionaries_are_read_as_the_peer_reads_them(text in text()) {
        compare(&text)?;
    }

    #[test]
    fn broken_dictionaries_are_read_by_neither(
        text in text(),
        at in any::<prop::sample::Index>(),
        other in prop::option::of("[ -~\t]"),
    ) {
        let mut broken: Vec<char> = text.chars().collect();
        if !broken.is_empty() {
            let at = at.index(broken.len());
            broken.splice(at..=at, other.iter().flat_map(|other| other.chars()));
        }
        compare(&broken.into_iter().collect::<String>())?;
    }

    #[test]
    fn what_a_signature_covers_is_written_as_the_peer_writes_it(
        names in prop::collection::btree_set("x-[a-z]{1,4}|@method|@path", 0..4),
        space in "[ ]{1,2}",
        parameters in prop::sample::subsequence(vec![
            ";created=1", "; keyid=\"a\\\"b\\\\c \"", ";  expires=20", ";alg=\"\"", ";nonce=\"~\"",
        ], 0..5).prop_shuffle(),
    ) {
        let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let text = format!("s=({}){}", names.join(&space), parameters.concat());
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE_INPUT, text.parse().unwrap());
        headers.insert(SIGNATURE, "s=:AAAA:".parse().unwrap());
        let (input, _) = signatures(&headers).unwrap().remove(0).unwrap();
        let canonical = peer(&text).unwrap().serialize().unwrap();
        prop_assert_eq!(format!("s={}", input.write()), canonical);
    }
}
