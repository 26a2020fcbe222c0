#![doc = include_str!("../README.md")]

mod error;
mod family;
mod home;
pub mod mariadb;
pub mod nats;
mod place;
mod port;
pub mod postgres;
mod program;
pub mod redis;
mod relay;
mod wait;

pub use error::Error;
pub use relay::{Flow, Relay};

/// A password: 128 random bits in hexadecimal.
fn secret() -> Result<String, Error> {
    let mut bits = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut bits))
        .map_err(Error::io("read /dev/urandom"))?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}
