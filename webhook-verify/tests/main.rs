//! All tests of the public interface in one program: it is linked once, and each file is a module of it.

mod adyen;
mod allocations;
mod cli;
mod custom;
mod diagnose;
mod document;
mod layer;
mod layer_hyper;
mod mailgun;
mod message;
mod paypal;
mod paytabs_return;
mod pipeline;
mod presets;
mod properties;
mod redis;
mod replay_memory;
mod rotation;
mod security_page;
mod sendgrid;
mod source;
mod strictness;
mod twilio;
mod wycheproof;
