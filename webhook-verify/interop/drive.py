"""Signs and verifies deliveries with the providers' own Python libraries.

One JSON request per line on standard input, one JSON answer per line on standard output:

    {"library", "scheme", "op": "sign" | "verify", "key", "url", "headers", "body", "id", "at"}
    -> {"headers", "body"?} | {"ok"} | {"error"}

`body` is base64 both ways. What a library says of a delivery (a result, or an exception that it
documents for "not genuine") is `ok`; any other exception is an `error`, which fails the test.
Two more: "version" of a library, and "keys", a new key pair.
"""

import base64
import datetime
import importlib.metadata
import json
import sys
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

# Some libraries print; the answers must stay alone on their channel.
ANSWERS, sys.stdout = sys.stdout, sys.stderr

LIBRARIES = {}


def library(package, scheme, op):
    def register(function):
        LIBRARIES[package, scheme, op] = function
        return function

    return register


def utc(seconds):
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)


def refused(errors, check):
    """Whether `check` passes without one of `errors`."""
    try:
        return check() is not False
    except errors:
        return False


# Standard Webhooks, Svix


@library("standardwebhooks", "standard_webhooks", "sign")
def _(r):
    from standardwebhooks.webhooks import Webhook

    signature = Webhook(r.key).sign(r.id, utc(r.at), r.body.decode())
    return {"webhook-id": r.id, "webhook-timestamp": str(r.at), "webhook-signature": signature}


@library("standardwebhooks", "standard_webhooks", "verify")
def _(r):
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    verify = Webhook(r.key).verify
    return refused(WebhookVerificationError, lambda: verify(r.body, r.headers, json_parse=False))


@library("svix", "svix", "sign")
def _(r):
    from svix.webhooks import Webhook

    signature = Webhook(r.key).sign(r.id, utc(r.at), r.body.decode())
    return {"svix-id": r.id, "svix-timestamp": str(r.at), "svix-signature": signature}


@library("svix", "svix", "verify")
def _(r):
    from svix.webhooks import Webhook, WebhookVerificationError

    return refused(WebhookVerificationError, lambda: Webhook(r.key).verify(r.body, r.headers))


# Payments


@library("stripe", "stripe", "sign")
def _(r):
    from stripe import WebhookSignature

    sign = WebhookSignature.generate_signature_header
    return {"stripe-signature": sign(r.body.decode(), r.key, r.at)}


@library("stripe", "stripe", "verify")
def _(r):
    from stripe import SignatureVerificationError, WebhookSignature

    header = r.headers["stripe-signature"]
    verify = WebhookSignature.verify_header
    return refused(SignatureVerificationError, lambda: verify(r.body.decode(), header, r.key, 300))


@library("squareup", "square", "verify")
def _(r):
    from square.utils.webhooks_helper import verify_signature

    return verify_signature(
        request_body=r.body.decode(),
        signature_header=r.headers["x-square-hmacsha256-signature"],
        signature_key=r.key,
        notification_url=r.url,
    )


@library("paddle-python-sdk", "paddle", "sign")
def _(r):
    from paddle_billing.Notifications import PaddleSignature

    mac = PaddleSignature.calculate_hmac(r.key, f"{r.at}:".encode() + r.body)
    return {"paddle-signature": f"ts={r.at};h1={mac.hexdigest()}"}


@library("paddle-python-sdk", "paddle", "verify")
def _(r):
    from paddle_billing.Notifications import Secret, Verifier

    # Its lookup is case-sensitive; a framework's header map is not.
    headers = {"Paddle-Signature": r.headers["paddle-signature"]}
    request = SimpleNamespace(headers=headers, body=r.body)
    return Verifier(300).verify(request, Secret(r.key))


@library("razorpay", "razorpay", "verify")
def _(r):
    import razorpay

    client = razorpay.Client(auth=("id", "secret"))
    verify = client.utility.verify_webhook_signature
    header = r.headers["x-razorpay-signature"]
    refusal = razorpay.errors.SignatureVerificationError
    return refused(refusal, lambda: verify(r.body.decode(), header, r.key))


@library("Adyen", "adyen", "sign")
def _(r):
    from Adyen.util import generate_notification_sig

    batch = json.loads(r.body)
    for entry in batch["notificationItems"]:
        item = entry["NotificationRequestItem"]
        signature = generate_notification_sig(item, r.key).decode()
        item.setdefault("additionalData", {})["hmacSignature"] = signature
    return {}, json.dumps(batch).encode()


@library("Adyen", "adyen", "verify")
def _(r):
    from Adyen.util import is_valid_hmac_notification

    # Given a batch, it looks at the first item only.
    items = [entry["NotificationRequestItem"] for entry in json.loads(r.body)["notificationItems"]]
    return all(is_valid_hmac_notification(item, r.key) for item in items)


@library("Adyen", "adyen_platform", "sign")
def _(r):
    from Adyen.util import generate_payload_sig

    return {"hmacsignature": generate_payload_sig(r.body, r.key).decode(), "protocol": "HmacSHA256"}


@library("Adyen", "adyen_platform", "verify")
def _(r):
    from Adyen.util import is_valid_hmac_payload

    return is_valid_hmac_payload(r.headers["hmacsignature"], r.key, r.body)


# PayPal's library verifies by calling PayPal; what it says was signed is a function of its own.


def paypal_signed(r, id, at):
    from paypalrestsdk.notifications import WebhookEvent

    return WebhookEvent._get_expected_sig(id, at, r.id, r.body.decode()).encode()


@library("paypalrestsdk", "paypal", "sign")
def _(r):
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    id, at = "d938e770-8046-11e6-8103-6b62a8a99ac4", utc(r.at).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = load_pem_private_key(r.key.encode(), None)
    signature = key.sign(paypal_signed(r, id, at), PKCS1v15(), SHA256())
    return {
        "paypal-transmission-id": id,
        "paypal-transmission-time": at,
        "paypal-transmission-sig": base64.b64encode(signature).decode(),
        "paypal-auth-algo": "SHA256withRSA",
        "paypal-cert-url": "https://api.paypal.com/v1/notifications/certs/CERT-1",
    }


@library("paypalrestsdk", "paypal", "verify")
def _(r):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    id, at = (r.headers[f"paypal-transmission-{name}"] for name in ("id", "time"))
    signature = base64.b64decode(r.headers["paypal-transmission-sig"])
    key = load_pem_public_key(r.key.encode())
    signed = paypal_signed(r, id, at)
    return refused(InvalidSignature, lambda: key.verify(signature, signed, PKCS1v15(), SHA256()))


# Platforms


@library("slack_sdk", "slack", "sign")
def _(r):
    from slack_sdk.signature import SignatureVerifier

    sign = SignatureVerifier(r.key).generate_signature
    signature = sign(timestamp=str(r.at), body=r.body)
    return {"x-slack-signature": signature, "x-slack-request-timestamp": str(r.at)}


@library("slack_sdk", "slack", "verify")
def _(r):
    from slack_sdk.signature import SignatureVerifier

    return SignatureVerifier(r.key).is_valid_request(r.body, r.headers)


@library("gidgethub", "github", "verify")
def _(r):
    from gidgethub import ValidationFailure
    from gidgethub.sansio import validate_event

    signature = r.headers["x-hub-signature-256"]
    check = lambda: validate_event(r.body, signature=signature, secret=r.key)
    return refused(ValidationFailure, check)


# Nobody's library makes Ed25519 signatures of webhooks: these sign the bytes of the documents.


def pynacl_sign(r, signed):
    from nacl.signing import SigningKey

    return SigningKey(bytes.fromhex(r.key)).sign(signed).signature


@library("PyNaCl", "discord", "sign")
def _(r):
    signature = pynacl_sign(r, str(r.at).encode() + r.body)
    return {"x-signature-ed25519": signature.hex(), "x-signature-timestamp": str(r.at)}


@library("PyNaCl", "standard_webhooks", "sign")
def _(r):
    signature = pynacl_sign(r, f"{r.id}.{r.at}.".encode() + r.body)
    signature = "v1a," + base64.b64encode(signature).decode()
    return {"webhook-id": r.id, "webhook-timestamp": str(r.at), "webhook-signature": signature}


@library("PyNaCl", "standard_webhooks", "verify")
def _(r):
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    id, at, signature = (r.headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    signature = base64.b64decode(signature.removeprefix("v1a,"))
    key = VerifyKey(bytes.fromhex(r.key))
    signed = f"{id}.{at}.".encode() + r.body
    return refused(BadSignatureError, lambda: key.verify(signed, signature))


@library("discord-interactions", "discord", "verify")
def _(r):
    from discord_interactions import verify_key

    names = "x-signature-ed25519", "x-signature-timestamp"
    return verify_key(r.body, *(r.headers[name] for name in names), r.key)


class Form(dict):
    """Fields of a form; a name may have several values."""

    def __init__(self, body):
        for name, value in parse_qsl(body.decode(), keep_blank_values=True):
            self.setdefault(name, []).append(value)

    getall = dict.__getitem__


def twilio_params(r):
    """As a framework hands them over: the fields of a form, else the text of the body."""
    if "bodySHA256=" in urlsplit(r.url).query:
        return r.body.decode()
    return Form(r.body)


@library("twilio", "twilio", "sign")
def _(r):
    from twilio.request_validator import RequestValidator

    params = twilio_params(r)
    signed = {} if isinstance(params, str) else params
    signature = RequestValidator(r.key).compute_signature(r.url, signed)
    return {"x-twilio-signature": signature}


@library("twilio", "twilio", "verify")
def _(r):
    from twilio.request_validator import RequestValidator

    signature = r.headers["x-twilio-signature"]
    return RequestValidator(r.key).validate(r.url, twilio_params(r), signature)


TWILIO_SETTINGS = "x-twilio-webhooks-signature-settings"


@library("twilio", "twilio_shared_key", "sign")
def _(r):
    from twilio.request_validator import HMAC_SHA256, RequestValidator

    sign = RequestValidator(r.key).compute_signature
    signature = sign(r.url, twilio_params(r), HMAC_SHA256)
    return {"x-twilio-signature": signature, TWILIO_SETTINGS: f"key=k,algorithm={HMAC_SHA256}"}


@library("twilio", "twilio_shared_key", "verify")
def _(r):
    from twilio.request_validator import RequestValidator, get_signature_algorithm

    signature = r.headers["x-twilio-signature"]
    algorithm = get_signature_algorithm(r.headers[TWILIO_SETTINGS])
    return RequestValidator(r.key).validate(r.url, twilio_params(r), signature, algorithm)


@library("sendgrid", "sendgrid", "verify")
def _(r):
    from sendgrid.helpers.eventwebhook import EventWebhook

    header = "x-twilio-email-event-webhook-"
    signature, time = (r.headers[header + name] for name in ("signature", "timestamp"))
    return EventWebhook(r.key).verify_signature(r.body.decode(), signature, time)


@library("mailgun", "mailgun", "verify")
def _(r):
    from mailgun.security import SecurityGuard

    if r.body.startswith(b"{"):
        fields = json.loads(r.body)["signature"]
    else:
        fields = {name: values[0] for name, values in Form(r.body).items()}
    names = "token", "timestamp", "signature"
    return SecurityGuard.verify_webhook(r.key, *(fields[name] for name in names))


# RFC 9421


def message(r):
    from http_message_signatures import MappingKeyResolver, algorithms
    from requests.structures import CaseInsensitiveDict

    shared = r.alg == "hmac-sha256"
    key = base64.b64decode(r.key) if shared else r.key.encode()
    settings = {
        "signature_algorithm": {
            "hmac-sha256": algorithms.HMAC_SHA256,
            "ed25519": algorithms.ED25519,
            "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
            "rsa-v1_5-sha256": algorithms.RSA_V1_5_SHA256,
            "rsa-pss-sha512": algorithms.RSA_PSS_SHA512,
        }[r.alg],
        "key_resolver": MappingKeyResolver(public_keys={"k": key}, private_keys={"k": key}),
    }
    headers = CaseInsensitiveDict(r.headers)
    return SimpleNamespace(method="POST", url=r.url, headers=headers), settings


@library("http-message-signatures", "http_message", "sign")
def _(r):
    from http_message_signatures import HTTPMessageSigner

    request, settings = message(r)
    HTTPMessageSigner(**settings).sign(
        request,
        key_id="k",
        created=utc(r.at),
        nonce=r.id,
        label="sig1",
        covered_component_ids=r.components,
        body=r.body,
    )
    return dict(request.headers)


@library("http-message-signatures", "http_message", "verify")
def _(r):
    from http_message_signatures import HTTPMessageVerifier, InvalidSignature

    request, settings = message(r)
    verify = HTTPMessageVerifier(**settings).verify
    age = datetime.timedelta(minutes=5)
    check = lambda: verify(request, max_age=age, require_components=r.components, body=r.body)
    return refused(InvalidSignature, check)


def keys(kind):
    """A new key pair in PEM."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = {
        "ed25519": lambda: ed25519.Ed25519PrivateKey.generate(),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()

    def private(format):
        return key.private_bytes(form.Encoding.PEM, format, form.NoEncryption()).decode()

    spki = form.PublicFormat.SubjectPublicKeyInfo
    return {
        "private": private(form.PrivateFormat.PKCS8),
        "traditional": private(form.PrivateFormat.TraditionalOpenSSL) if kind == "p256" else "",
        "public": key.public_key().public_bytes(form.Encoding.PEM, spki).decode(),
    }


def answer(request):
    function = LIBRARIES[request.library, request.scheme, request.op]
    request.body = base64.b64decode(request.body)
    result = function(request)
    if request.op == "verify":
        return {"ok": bool(result)}
    headers, body = result if isinstance(result, tuple) else (result, None)
    return {"headers": headers, "body": body and base64.b64encode(body).decode()}


def main():
    for line in sys.stdin:
        request = SimpleNamespace(**json.loads(line))
        try:
            if request.op == "version":
                reply = {"version": importlib.metadata.version(request.library)}
            elif request.op == "keys":
                reply = keys(request.kind)
            else:
                reply = answer(request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=ANSWERS, flush=True)


main()
