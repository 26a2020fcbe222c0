//! Keys of deliveries, and where they come from.

use std::path::Path;

use webhook_verify::{Scheme, Secret};

use crate::config::{WebhookSecretConfig, files};

/// The text of a variable, or of a file without the white space at its end. What is wrong is told by
/// the name of the place and never by what is there.
pub(super) fn text(what: &str, env: Option<&str>, file: Option<&Path>) -> Result<String, String> {
    if let Some(name) = env {
        return match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(text),
            Ok(_) => Err(format!("{what}: the variable {name} is empty")),
            Err(std::env::VarError::NotPresent) => {
                Err(format!("{what}: the variable {name} is not set"))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(format!("{what}: the variable {name} is not text"))
            }
        };
    }
    let file = file.unwrap_or_else(|| "".as_ref());
    let shown = file.display();
    let text = files::read_text(file, files::MOST)
        .map_err(|error| format!("{what}: {shown} cannot be read: {error}"))?;
    let text = text.trim_end();
    match text.is_empty() {
        true => Err(format!("{what}: {shown} is empty")),
        false => Ok(text.to_owned()),
    }
}

/// One key, from wherever it comes.
pub(super) fn read(scheme: &Scheme, config: &WebhookSecretConfig) -> Result<Secret, String> {
    let what = format!("secret {}", config.id);
    if let Some(key) = &config.public_key {
        return public(scheme, &config.id, key).map_err(|why| format!("{what}: {why}"));
    }
    let text = text(&what, config.env.as_deref(), config.file.as_deref())?;
    parse(scheme, &config.id, &text).map_err(|why| format!("{what}: {why}"))
}

/// A key that the configuration itself has, which must not be a secret. The error does not repeat it.
pub(crate) fn public(scheme: &Scheme, id: &str, text: &str) -> Result<Secret, String> {
    let key = parse(scheme, id, text.trim())?;
    match key.is_public() {
        true => Ok(key),
        false => Err("is a secret, which belongs into a variable (env) or file".to_owned()),
    }
}

/// The error names the form and not the text.
fn parse(scheme: &Scheme, id: &str, text: &str) -> Result<Secret, String> {
    let pem = text.starts_with("-----BEGIN ");
    let key = match pem {
        // Says itself what it is, whatever form the provider has.
        #[cfg(feature = "webhook-keys")]
        true => Secret::pem(id, text),
        _ => scheme.secret(id, text),
    };
    let key = key.map_err(|error| error.to_string())?;
    match key.is_private() {
        true => Err("is a private key; only its public part belongs here".to_owned()),
        false => Ok(key),
    }
}
