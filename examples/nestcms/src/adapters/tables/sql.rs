//! Statements out of tables. Every name in them is a constant of the program.

use super::{Table, columns};

/// One record, by `$1`.
pub(in crate::adapters) fn select<T: Table>() -> String {
    format!("SELECT {} FROM {} WHERE id = $1", names::<T>(), T::NAME)
}

/// Records whose `fields` have the values `$1` and on, as many as the last parameter says; `None`
/// if there is no such field.
pub(in crate::adapters) fn list<T: Table>(fields: &[(&'static str, String)]) -> Option<String> {
    let mut conditions = Vec::new();
    for (index, (field, _)) in fields.iter().enumerate() {
        columns::<T>().find(|(name, _)| name == field)?;
        conditions.push(format!("{field} = ${}", index + 1));
    }
    let condition = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    Some(format!(
        "SELECT {} FROM {}{condition} ORDER BY id LIMIT ${}",
        names::<T>(),
        T::NAME,
        fields.len() + 1
    ))
}

/// A new record of all cells; no row if something of it is taken.
pub(in crate::adapters) fn insert<T: Table>() -> String {
    let places = (1..=columns::<T>().count()).map(|n| format!("${n}"));
    let constants = T::CONSTANTS;
    let also: String = constants.iter().map(|(n, _)| format!(", {n}")).collect();
    let values: String = constants.iter().map(|(_, v)| format!(", {v}")).collect();
    format!(
        "INSERT INTO {} ({}{also}) VALUES ({}{values}) ON CONFLICT DO NOTHING RETURNING {}",
        T::NAME,
        names::<T>(),
        places.collect::<Vec<_>>().join(", "),
        names::<T>()
    )
}

/// Id, content, time of the change, and the version that the record must have or 0.
pub(in crate::adapters) fn update<T: Table>() -> String {
    let own = T::COLUMNS.iter().enumerate();
    let set: String = own
        .map(|(index, (name, _))| format!("{name} = ${}, ", index + 2))
        .collect();
    let (time, version) = (T::COLUMNS.len() + 2, T::COLUMNS.len() + 3);
    format!(
        "UPDATE {} SET {set}updated_at = ${time}, version = version + 1 \
         WHERE id = $1 AND (version = ${version} OR ${version} = 0) RETURNING {}",
        T::NAME,
        names::<T>()
    )
}

/// The version of a record, by `$1`.
pub(in crate::adapters) fn version<T: Table>() -> String {
    format!("SELECT version FROM {} WHERE id = $1", T::NAME)
}

fn names<T: Table>() -> String {
    let names: Vec<_> = columns::<T>().map(|(name, _)| name).collect();
    names.join(", ")
}
