//! paytabs-sandbox
fn main() {}
