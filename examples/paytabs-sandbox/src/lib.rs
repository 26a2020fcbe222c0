//! paytabs-sandbox
