//! Signs and verifies a webhook from the command line: "why is it refused?".

mod args;
mod diagnose;
mod input;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use http::Request;
use webhook_verify::{
    BuildError, Scheme, Secret, SignError, Signer, Verifier,
    clock::{SystemClock, WallClock},
    presets,
};

use self::{
    args::{Cli, Command, Sign, Verify},
    input::{Body, InputError},
};

/// Refused.
const REFUSED: u8 = 1;
/// Something that was given cannot be read or used. (2 is clap's, for wrong usage.)
const UNUSABLE: u8 = 3;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Sign(sign) => run_sign(&sign),
        Command::Verify(verify) => run_verify(&verify),
        Command::Diagnose(verify) => diagnose::run(&verify),
        Command::Schemes => {
            presets::names().for_each(|name| println!("{name}"));
            Ok(true)
        }
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
    #[error("the secret cannot be used: {0}")]
    Secret(#[from] webhook_verify::SecretError),
    #[error("cannot be signed: {0}")]
    Sign(#[from] SignError),
    #[error("the settings do not fit together: {0}")]
    Build(#[from] BuildError),
    #[error("the method or URL cannot be used: {0}")]
    Request(#[from] http::Error),
}

fn run_sign(args: &Sign) -> Result<bool, Failure> {
    let common = &args.common;
    let secret = common.scheme.secret("cli", &common.secret.read()?)?;
    let body = Body::read(common.body.as_deref())?;
    let mut request = Request::builder()
        .method(common.method.as_str())
        .uri(common.url.as_str())
        .body(())?
        .into_parts()
        .0;
    request.headers = input::headers(&args.header, None)?;
    let signer = Signer::new(common.scheme.clone(), secret);
    let at = common
        .at
        .map_or_else(|| SystemClock.now(), Duration::from_secs);
    let headers = signer.sign_request(&request, args.id.as_deref(), at, &body.0)?;
    for (name, value) in &headers {
        println!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    Ok(true)
}

fn run_verify(args: &Verify) -> Result<bool, Failure> {
    let delivery = Delivery::read(args)?;
    let secret = delivery.scheme.secret("cli", &args.common.secret.read()?)?;
    match delivery.verify(secret, &delivery.body.0)? {
        Ok(age) => {
            println!("{}", accepted(&delivery.scheme, age));
            Ok(true)
        }
        Err(error) => {
            eprintln!("{}", refused(&error));
            Ok(false)
        }
    }
}

fn accepted(scheme: &Scheme, age: Option<i64>) -> String {
    let age = age.map_or_else(String::new, |age| format!(", {age} s old"));
    format!("verified as {}{age}", scheme.name())
}

fn refused(error: &webhook_verify::Error) -> String {
    format!("refused at {}: {}", error.step(), error.reason())
}

/// The delivery that is judged, and how.
struct Delivery {
    scheme: Scheme,
    request: http::request::Parts,
    body: Body,
    now: Duration,
    tolerance: Option<Duration>,
}

impl Delivery {
    fn read(args: &Verify) -> Result<Self, Failure> {
        let common = &args.common;
        let mut request = Request::builder()
            .method(common.method.as_str())
            .uri(common.url.as_str())
            .body(())?
            .into_parts()
            .0;
        request.headers = input::headers(&args.header, args.headers_file.as_deref())?;
        Ok(Self {
            scheme: common.scheme.clone(),
            request,
            body: Body::read(common.body.as_deref())?,
            now: common
                .at
                .map_or_else(|| SystemClock.now(), Duration::from_secs),
            tolerance: args.tolerance.map(Duration::from_secs),
        })
    }

    /// The age of the delivery, or why it is refused.
    fn verify(
        &self,
        secret: Secret,
        body: &[u8],
    ) -> Result<Result<Option<i64>, webhook_verify::Error>, Failure> {
        let mut builder = Verifier::builder(self.scheme.clone())
            .secret(secret)
            .methods([])
            .clock(At(self.now))
            .body_limit(body.len());
        if let Some(tolerance) = self.tolerance {
            builder = builder.tolerance(tolerance, tolerance);
        }
        let verified = builder.build()?.verify(&self.request, None, body);
        Ok(verified.map(|verified| verified.age_seconds()))
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
