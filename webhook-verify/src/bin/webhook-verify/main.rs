//! Signs and verifies a webhook from the command line: "why is it refused?".

mod args;
mod input;
mod schemes;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use http::{HeaderMap, HeaderValue, Request, header::CONTENT_TYPE, request::Parts};
use webhook_verify::{
    BuildError, Error, Scheme, Secret, SecretError, SignError, Signer, Step, Verified, Verifier,
    clock::{SystemClock, WallClock},
};

use self::{
    args::{Cli, Command, Common, Sign, Verify},
    input::{Body, InputError},
    schemes::SchemeTrouble,
};

/// Refused.
const REFUSED: u8 = 1;
/// Something that was given cannot be read or used; clap's for wrong usage.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Sign(sign) => run_sign(&sign),
        Command::Verify(verify) => run_verify(&verify),
        Command::Diagnose(verify) => run_diagnose(&verify),
        Command::Schemes => print(schemes::list().as_bytes()).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => REFUSED.into(),
        Err(error) => {
            eprintln!("webhook-verify: {error}");
            UNUSABLE.into()
        }
    }
}

/// What stops the command before it can judge.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Scheme(#[from] SchemeTrouble),
    #[error("the secret cannot be used: {0}")]
    Secret(#[from] SecretError),
    #[error("cannot be signed: {0}")]
    Sign(#[from] SignError),
    #[error("the settings do not fit together: {0}")]
    Build(#[from] BuildError),
    #[error("the method or URL cannot be used: {0}")]
    Request(#[from] http::Error),
    #[error("cannot be written: {0}")]
    Output(#[from] io::Error),
}

fn run_sign(args: &Sign) -> Result<bool, Failure> {
    let mut delivery = Delivery::read(&args.common)?;
    let secret = delivery.secret(&args.common.secret.read()?, &args.common)?;
    let mut headers = delivery.assume_content_type();
    let Delivery {
        scheme,
        request,
        body,
        now,
    } = &delivery;
    let signer = Signer::new(scheme.clone(), secret);
    let id = args.id.as_deref();
    let signed = signer.sign_delivery(Some(request), id, *now, &body.0)?;
    headers.extend(signed.headers().clone());
    let mut text = Vec::new();
    for (name, value) in &headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    match (&args.out, signed.body()) {
        (Some(file), signed) => std::fs::write(file, signed.unwrap_or(&body.0))?,
        (None, Some(signed)) => {
            text.push(b'\n');
            text.extend_from_slice(signed);
        }
        (None, None) => {}
    }
    print(&text)?;
    Ok(true)
}

fn run_verify(args: &Verify) -> Result<bool, Failure> {
    let delivery = Delivery::read(&args.common)?;
    let secret = delivery.secret(&args.common.secret.read()?, &args.common)?;
    let verifier = delivery.verifier(secret, args)?;
    delivery.judge(&verifier).map(|judged| judged.is_ok())
}

fn run_diagnose(args: &Verify) -> Result<bool, Failure> {
    let delivery = Delivery::read(&args.common)?;
    let text = args.common.secret.read()?;
    let (scheme, request, body) = (&delivery.scheme, &delivery.request, &delivery.body.0);
    let mut hints = Vec::new();
    match delivery.secret(&text, &args.common) {
        Ok(secret) => {
            let verifier = delivery.verifier(secret, args)?;
            match delivery.judge(&verifier)? {
                Ok(_) => return Ok(true),
                Err(error) if !matches!(error.step(), Step::Signature | Step::Timestamp) => {
                    return Ok(false);
                }
                Err(_) => hints = verifier.diagnose(request, body),
            }
        }
        Err(error) => eprintln!("the secret cannot be used with {}: {error}", scheme.name()),
    }
    let id = &args.common.scheme.key_id;
    hints.extend(scheme.diagnose_secret(id, &text, request, body));
    if hints.is_empty() {
        eprintln!(
            "none of the usual mistakes explains it: another secret, or a changed body or header"
        );
    }
    for hint in hints {
        eprintln!("hint: {hint}");
    }
    Ok(false)
}

/// To standard output; the other end may have gone away.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The delivery that is signed or judged.
struct Delivery {
    scheme: Scheme,
    request: Parts,
    body: Body,
    now: Duration,
}

impl Delivery {
    fn read(common: &Common) -> Result<Self, Failure> {
        let scheme = common.scheme.scheme()?;
        let request = Request::builder()
            .method(common.method.as_str())
            .uri(common.scheme.url.as_str());
        let mut request = request.body(())?.into_parts().0;
        request.headers = input::headers(&common.header, common.headers_file.as_deref())?;
        let at = common.at.map(Duration::from_secs);
        Ok(Self {
            scheme,
            request,
            body: Body::read(common.body.as_deref())?,
            now: at.unwrap_or_else(|| SystemClock.now()),
        })
    }

    /// What a sender would say of the body, for schemes that read it and were not told.
    fn assume_content_type(&mut self) -> HeaderMap {
        let mut assumed = HeaderMap::new();
        let reads = self.scheme.headers().any(|name| name == CONTENT_TYPE);
        if reads && !self.body.0.is_empty() && !self.request.headers.contains_key(CONTENT_TYPE) {
            let json = self.body.0.trim_ascii_start().starts_with(b"{");
            let text = match json {
                true => "application/json",
                false => "application/x-www-form-urlencoded",
            };
            assumed.insert(CONTENT_TYPE, HeaderValue::from_static(text));
            self.request.headers.extend(assumed.clone());
        }
        assumed
    }

    fn secret(&self, text: &str, common: &Common) -> Result<Secret, SecretError> {
        let id = &common.scheme.key_id;
        if text.starts_with("-----BEGIN ") {
            // A form that says itself what it is, whatever the provider shows.
            Secret::pem(id, text)
        } else {
            self.scheme.secret(id, text)
        }
    }

    fn verifier(&self, secret: Secret, args: &Verify) -> Result<Verifier, BuildError> {
        let mut builder = Verifier::builder(self.scheme.clone())
            .secret(secret)
            .methods([])
            .clock(At(self.now))
            .body_limit(self.body.0.len());
        if let Some(seconds) = args.tolerance {
            let tolerance = Duration::from_secs(seconds);
            builder = builder.tolerance(tolerance, tolerance);
        }
        builder.build()
    }

    /// Verifies it, and says so.
    fn judge(&self, verifier: &Verifier) -> Result<Result<Verified, Error>, Failure> {
        let judged = verifier.verify(&self.request, None, &self.body.0);
        match &judged {
            Ok(verified) => {
                let age = verified.age_seconds();
                let age = age.map_or_else(String::new, |age| format!(", {age} s old"));
                print(format!("verified as {}{age}\n", verified.scheme()).as_bytes())?;
            }
            Err(error) => eprintln!("refused at {}: {}", error.step(), error.reason()),
        }
        Ok(judged)
    }
}

/// A clock that stands still.
#[derive(Debug)]
struct At(Duration);

impl WallClock for At {
    fn now(&self) -> Duration {
        self.0
    }
}
