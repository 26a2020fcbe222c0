// Signs and verifies deliveries with the providers' own libraries for Node; drive.py tells the
// form of requests and answers. It runs from a copy that stands where they are installed.

import { Console } from "node:console";
import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parse as parseForm } from "node:querystring";
import { createInterface } from "node:readline";

// Some libraries print; the answers must stay alone on their channel.
globalThis.console = new Console(process.stderr);

const require = createRequire(import.meta.url);

const text = (r) => r.body.toString("utf8");

/** Whether `check` passes without an error that `is` knows as "not genuine". */
const refused = async (is, check) => {
  try {
    return (await check()) !== false;
  } catch (error) {
    if (is(error)) return false;
    throw error;
  }
};

// Standard Webhooks and Svix

const family = (library, prefix) => {
  const name = (part) => `${prefix}-${part}`;
  const load = () => require(library);
  return {
    async sign(r) {
      const signature = new (load().Webhook)(r.key).sign(r.id, new Date(r.at * 1000), text(r));
      return {
        headers: {
          [name("id")]: r.id,
          [name("timestamp")]: String(r.at),
          [name("signature")]: signature,
        },
      };
    },
    verify(r) {
      const { Webhook, WebhookVerificationError } = load();
      return refused(
        (error) => error instanceof WebhookVerificationError,
        () => new Webhook(r.key).verify(text(r), r.headers, { jsonParse: false }),
      );
    },
  };
};

// Payments

const stripe = {
  async sign(r) {
    const { webhooks } = new (require("stripe"))("sk_test");
    const settings = { payload: text(r), secret: r.key, timestamp: r.at };
    return { headers: { "stripe-signature": webhooks.generateTestHeaderString(settings) } };
  },
  verify(r) {
    const Stripe = require("stripe");
    const { webhooks } = new Stripe("sk_test");
    const header = r.headers["stripe-signature"];
    return refused(
      (error) => error instanceof Stripe.errors.StripeSignatureVerificationError,
      () => webhooks.signature.verifyHeader(text(r), header, r.key, 300),
    );
  },
};

const paddle = {
  verify(r) {
    const { Paddle } = require("@paddle/paddle-node-sdk");
    const { webhooks } = new Paddle("key");
    return webhooks.isSignatureValid(text(r), r.key, r.headers["paddle-signature"]);
  },
};

const razorpay = {
  verify: (r) =>
    require("razorpay").validateWebhookSignature(
      text(r),
      r.headers["x-razorpay-signature"],
      r.key,
    ),
};

const adyenValidator = () => new (require("@adyen/api-library").hmacValidator)();
const adyenItems = (batch) =>
  batch.notificationItems.map((entry) => entry.NotificationRequestItem);

const adyen = {
  async sign(r) {
    const batch = JSON.parse(text(r));
    for (const item of adyenItems(batch)) {
      const hmacSignature = adyenValidator().calculateHmac(item, r.key);
      item.additionalData = { ...item.additionalData, hmacSignature };
    }
    return { headers: {}, body: JSON.stringify(batch) };
  },
  verify: (r) =>
    adyenItems(JSON.parse(text(r))).every((item) => adyenValidator().validateHMAC(item, r.key)),
};

const adyenPlatform = {
  async sign(r) {
    const signature = adyenValidator().calculateHmac(text(r), r.key);
    return { headers: { hmacsignature: signature, protocol: "HmacSHA256" } };
  },
  verify: (r) =>
    adyenValidator().validateHMACSignature(r.key, r.headers.hmacsignature, text(r)),
};

// Platforms

const github = {
  async sign(r) {
    const { sign } = await import("@octokit/webhooks-methods");
    return { headers: { "x-hub-signature-256": await sign(r.key, text(r)) } };
  },
  async verify(r) {
    const { verify } = await import("@octokit/webhooks-methods");
    return verify(r.key, text(r), r.headers["x-hub-signature-256"]);
  },
};

const slack = {
  verify: (r) =>
    require("@slack/bolt").isValidSlackRequest({
      signingSecret: r.key,
      body: text(r),
      headers: r.headers,
    }),
};

const shopify = {
  async verify(r) {
    require("@shopify/shopify-api/adapters/node");
    const { shopifyApi, ApiVersion, LogSeverity } = require("@shopify/shopify-api");
    const api = shopifyApi({
      apiKey: "key",
      apiSecretKey: r.key,
      hostName: "app.example",
      apiVersion: Object.values(ApiVersion).at(-1),
      isEmbeddedApp: false,
      logger: { level: LogSeverity.Error },
    });
    // Not signed, but it asks for them.
    const headers = {
      "x-shopify-topic": "orders/create",
      "x-shopify-shop-domain": "one.myshopify.com",
      "x-shopify-api-version": "2026-07",
      "x-shopify-webhook-id": "1",
      ...r.headers,
    };
    const rawHeaders = Object.entries(headers).flat();
    const rawRequest = { method: "POST", url: "/", headers, rawHeaders };
    const result = await api.webhooks.validate({
      rawBody: text(r),
      rawRequest,
      rawResponse: {},
    });
    return result.valid;
  },
};

const zoom = {
  async verify(r) {
    const { AwsLambdaReceiver } = require("@zoom/rivet/users");
    const receiver = new AwsLambdaReceiver({ webhooksSecretToken: r.key });
    let events = 0;
    receiver.init({ eventEmitter: { emit: async () => (events += 1) } });
    const handle = await receiver.start();
    const answer = await handle({ body: text(r), headers: r.headers, isBase64Encoded: false }, {});
    return answer.statusCode === 200 && events === 1;
  },
};

const discord = {
  verify: (r) =>
    require("discord-interactions").verifyKey(
      r.body,
      r.headers["x-signature-ed25519"],
      r.headers["x-signature-timestamp"],
      r.key,
    ),
};

const linear = {
  verify(r) {
    const { LinearWebhookClient } = require("@linear/sdk/webhooks");
    const client = new LinearWebhookClient(r.key);
    return refused(
      (error) => /signature|timestamp/i.test(error.message),
      () => client.verify(r.body, r.headers["linear-signature"]),
    );
  },
};

const isJson = (r) => new URL(r.url).searchParams.has("bodySHA256");

const twilio = {
  async sign(r) {
    const { getExpectedTwilioSignature } = require("twilio");
    const params = isJson(r) ? {} : parseForm(text(r));
    const signature = getExpectedTwilioSignature(r.key, r.url, params);
    return { headers: { "x-twilio-signature": signature } };
  },
  verify(r) {
    const { validateRequest, validateRequestWithBody } = require("twilio");
    const signature = r.headers["x-twilio-signature"];
    return isJson(r)
      ? validateRequestWithBody(r.key, signature, r.url, text(r))
      : validateRequest(r.key, signature, r.url, parseForm(text(r)));
  },
};

const sendgridHeader = "x-twilio-email-event-webhook";

const sendgrid = {
  async sign(r) {
    const { Ecdsa, PrivateKey } = require("starkbank-ecdsa");
    const signature = Ecdsa.sign(`${r.at}${text(r)}`, PrivateKey.fromPem(r.key));
    return {
      headers: {
        [`${sendgridHeader}-signature`]: signature.toBase64(),
        [`${sendgridHeader}-timestamp`]: String(r.at),
      },
    };
  },
  verify(r) {
    const { EventWebhook } = require("@sendgrid/eventwebhook");
    const webhook = new EventWebhook();
    const key = webhook.convertPublicKeyToECDSA(r.key);
    const [signature, time] = ["signature", "timestamp"].map(
      (name) => r.headers[`${sendgridHeader}-${name}`],
    );
    return webhook.verifySignature(key, text(r), signature, time);
  },
};

// RFC 9421

const digest = (body) => `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
const secret = (r) => (r.alg === "hmac-sha256" ? Buffer.from(r.key, "base64") : null);

const message = {
  async sign(r) {
    const { createSigner, httpbis } = require("http-message-signatures");
    const key = createSigner(secret(r) ?? createPrivateKey(r.key), r.alg, "k");
    const headers = { ...r.headers, "content-digest": digest(r.body) };
    const signed = await httpbis.signMessage(
      {
        key,
        name: "sig1",
        fields: [...r.components, "content-digest"],
        params: ["created", "keyid", "alg", "nonce"],
        paramValues: { created: new Date(r.at * 1000), nonce: r.id },
      },
      { method: "POST", url: r.url, headers },
    );
    return { headers: signed.headers };
  },
  async verify(r) {
    const { createVerifier, httpbis, VerificationError } = require("http-message-signatures");
    const verify = createVerifier(secret(r) ?? createPublicKey(r.key), r.alg);
    const keyLookup = async ({ keyid }) =>
      keyid === "k" ? { id: "k", algs: [r.alg], verify } : null;
    const settings = { keyLookup, maxAge: 300, requiredFields: [...r.components, "content-digest"] };
    const request = { method: "POST", url: r.url, headers: r.headers };
    // Without a known key it says null.
    const check = async () => (await httpbis.verifyMessage(settings, request)) === true;
    const known = (error) =>
      error instanceof VerificationError || error.message.startsWith("Parse error");
    // The digest itself it leaves to its caller.
    return r.headers["content-digest"] === digest(r.body) && refused(known, check);
  },
};

const libraries = {
  "standardwebhooks/standard_webhooks": family("standardwebhooks", "webhook"),
  "svix/svix": family("svix", "svix"),
  "stripe/stripe": stripe,
  "@paddle/paddle-node-sdk/paddle": paddle,
  "razorpay/razorpay": razorpay,
  "@adyen/api-library/adyen": adyen,
  "@adyen/api-library/adyen_platform": adyenPlatform,
  "@octokit/webhooks-methods/github": github,
  "@slack/bolt/slack": slack,
  "@shopify/shopify-api/shopify": shopify,
  "@zoom/rivet/zoom": zoom,
  "discord-interactions/discord": discord,
  "@linear/sdk/linear": linear,
  "twilio/twilio": twilio,
  "@sendgrid/eventwebhook/sendgrid": sendgrid,
  "http-message-signatures/http_message": message,
};

const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;

const answer = async (r) => {
  if (r.op === "version") return { version: version(r.library) };
  r.body = Buffer.from(r.body, "base64");
  const result = await libraries[`${r.library}/${r.scheme}`][r.op](r);
  if (r.op === "verify") return { ok: result === true };
  const body = result.body && Buffer.from(result.body).toString("base64");
  return { headers: result.headers, body };
};

for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(JSON.parse(line)).catch((error) => ({ error: String(error) }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
// Some libraries leave timers behind.
process.exit(0);
