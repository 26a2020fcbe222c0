//! What the providers' documentation says of schemes with a signature in a header.

use super::{Hash, Piece, Plain, Replay, Time};

/// One HMAC-SHA256 value over the body.
fn body(name: &'static str, header: &str, base64: bool, label: &str) -> Plain {
    Plain {
        name,
        header: header.to_owned(),
        separator: None,
        base64,
        hmac: Some((Hash::Sha256, label.to_owned())),
        ed25519: None,
        time: Time::None,
        millis: false,
        digits: None,
        id: None,
        signed: vec![Piece::Body],
        tolerance: (300, 300),
        replay: Replay::Signature,
    }
}

fn text(text: &'static str) -> Piece {
    Piece::Text(text.into())
}

fn header(name: &str) -> Time {
    Time::Header(name.to_owned())
}

fn v0(name: &'static str, signature: &str, time: &str) -> Plain {
    Plain {
        time: header(time),
        signed: vec![text("v0:"), Piece::Time, text(":"), Piece::Body],
        ..body(name, signature, false, "v0=")
    }
}

fn family(name: &'static str, prefix: &str) -> Plain {
    Plain {
        separator: Some(b' '),
        ed25519: Some("v1a,".to_owned()),
        time: header(&format!("{prefix}-timestamp")),
        id: Some(format!("{prefix}-id")),
        signed: vec![Piece::Id, text("."), Piece::Time, text("."), Piece::Body],
        replay: Replay::Id,
        ..body(name, &format!("{prefix}-signature"), true, "v1,")
    }
}

/// The scheme of this name; `None` when it is read out of the delivery.
pub fn of(name: &str) -> Option<Plain> {
    Some(match name {
        "discord" => Plain {
            hmac: None,
            ed25519: Some(String::new()),
            time: header("x-signature-timestamp"),
            digits: Some(10),
            signed: vec![Piece::Time, Piece::Body],
            ..body("discord", "x-signature-ed25519", false, "")
        },
        "adyen_platform" => body("adyen_platform", "hmacsignature", true, ""),
        "dropbox" => body("dropbox", "x-dropbox-signature", false, ""),
        "github" => body("github", "x-hub-signature-256", false, "sha256="),
        "lemon_squeezy" => body("lemon_squeezy", "x-signature", false, ""),
        "linear" => body("linear", "linear-signature", false, ""),
        "paddle" => Plain {
            separator: Some(b';'),
            time: Time::Label("ts=".to_owned()),
            signed: vec![Piece::Time, text(":"), Piece::Body],
            tolerance: (5, 5),
            replay: Replay::Content,
            ..body("paddle", "paddle-signature", false, "h1=")
        },
        "paytabs_callback" => body("paytabs_callback", "signature", false, ""),
        "razorpay" => body("razorpay", "x-razorpay-signature", false, ""),
        "shopify" => body("shopify", "x-shopify-hmac-sha256", true, ""),
        "slack" => v0("slack", "x-slack-signature", "x-slack-request-timestamp"),
        "square" => Plain {
            signed: vec![text(super::changes::SQUARE), Piece::Body],
            ..body("square", "x-square-hmacsha256-signature", true, "")
        },
        "standard_webhooks" => family("standard_webhooks", "webhook"),
        "stripe" => Plain {
            separator: Some(b','),
            time: Time::Label("t=".to_owned()),
            signed: vec![Piece::Time, text("."), Piece::Body],
            replay: Replay::Content,
            ..body("stripe", "stripe-signature", false, "v1=")
        },
        "svix" => family("svix", "svix"),
        "timestamped" => Plain {
            time: header("x-webhook-timestamp"),
            signed: vec![Piece::Time, text("."), Piece::Body],
            tolerance: (300, 60),
            ..body("timestamped", "x-webhook-signature", false, "")
        },
        "timestamped_body_only" => body("timestamped_body_only", "x-webhook-signature", false, ""),
        "zoom" => v0("zoom", "x-zm-signature", "x-zm-request-timestamp"),
        _ => return None,
    })
}
