//! nestcms
fn main() {}
