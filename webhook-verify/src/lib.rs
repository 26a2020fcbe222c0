//! webhook-verify
