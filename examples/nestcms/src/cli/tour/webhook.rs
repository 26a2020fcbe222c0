//! D: what the webhook pipeline lets in, and what not.

use std::time::Duration;

use webhook_verify::Secret;

use super::client::{Answer, Delivery, FOREIGNER, Played, callback};
use super::story::{Fact, Story, fact, same};
use super::world::{NEW_KEY, OLD_KEY, World, config, reordered, settings};
use crate::domain::event::EventData;
use crate::stack::Stack;

/// D.c1, D.c2, D.c4, D.c6, D.c7, D.c8: one request at a time.
pub(super) async fn checks(world: &World, story: &mut Story) -> Played<()> {
    story.tell("From here on deliveries are made by hand and come by way of a proxy that the");
    story.tell("gateway trusts, each under a fresh address. (The tour binds 127.0.0.9 for it.)");
    let mut facts = Vec::new();
    for (number, step) in ["signature", "timestamp", "source", "header", "payload"]
        .into_iter()
        .enumerate()
    {
        let answer = world.client.deliver(&broken_from(world, number)).await?;
        facts.push(same(step, answer.status, [401, 401, 403, 400, 422][number]));
        facts.push(same("the step", world.last_step(), step));
    }
    story.check(
        "D.c1",
        "of several broken steps the first one is reported, for each of five",
        &facts,
    );

    story.tell("Single bits are flipped in body, timestamp and signature.");
    let mut facts = Vec::new();
    for bit in 0..36 {
        let answer = world.client.deliver(&flipped(world, bit)).await?;
        facts.push(same(&format!("flip {bit}"), answer.status, 401));
    }
    story.check("D.c2", "every one of 36 flipped bits gives 401", &facts);

    story.tell("A stranger claims to forward for an allowed address.");
    let honest = world.delivery("TST-UNKNOWN");
    let answer = world.client.deliver_as_stranger(&honest).await?;
    story.check(
        "D.c4",
        "x-forwarded-for from an unlisted peer is not believed: 403",
        &[
            same("the status", answer.status, 403),
            same("the step", world.last_step(), "source"),
        ],
    );

    story.tell("A body one byte over the limit, with a wrong signature.");
    let limit = world.stack.settings.webhook.body_limit;
    let mut large = world.delivery("TST-UNKNOWN");
    large.body = vec![b' '; limit + 1];
    let answer = world.client.deliver(&large).await?;
    story.check(
        "D.c6",
        "413, and the step is the size, not the signature",
        &[
            same("the status", answer.status, 413),
            same("the step", world.last_step(), "body_limit"),
        ],
    );

    story.tell("Garbage in every field, 120 times.");
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut welcome = 0;
    for _ in 0..120 {
        let answer = world.client.deliver(&noise.delivery(world)).await?;
        welcome += usize::from((200..300).contains(&answer.status));
    }
    let alive = world.client.get("/api/v1/users/me").await?;
    story.check(
        "D.c7",
        "garbage is never welcome, and the application lives",
        &[
            same("2xx answers", welcome, 0),
            same("afterwards", alive.status, 200),
        ],
    );

    story.tell("A partner's address is written as an IPv4-mapped IPv6 address.");
    let mut mapped = world.delivery("TST-UNKNOWN");
    mapped.from = format!("::ffff:{}", mapped.from);
    let answer = world.client.deliver(&mapped).await?;
    story.check(
        "D.c8",
        "::ffff:a.b.c.d matches the rule for a.b.c.d",
        &passed(&answer),
    );
    Ok(())
}

/// D.c3: replays. Needs the wall clock to jump.
pub(super) async fn replays(world: &mut World, story: &mut Story) -> Played<()> {
    story.tell("A real payment's callback is recorded and played again, 10 s and 301 s later.");
    story.tell("(The tour moves the wall clock; nobody waits for real.)");
    world.paytabs(|switches| switches.hold_callbacks = true);
    let (id, page) = world.client.initiated_payment().await?;
    world.client.press(&page, "pay").await?;
    let tran_ref = world
        .client
        .payment(&id)
        .await?
        .text("provider_ref")
        .to_owned();
    let delivery = world.delivery(&tran_ref);
    let first = world.client.deliver(&delivery).await?;
    let state = world.client.until(&id, "succeeded").await?;
    world.jump(Duration::from_secs(10)).await?;
    let soon = world.client.deliver(&delivery).await?;
    let effects = world.count_of(&id, "payment.success");
    world.jump(Duration::from_secs(291)).await?;
    let late = world.client.deliver(&delivery).await?;
    story.check(
        "D.c3",
        "200; again after 10 s: 200 without effect; after 301 s: 401 at the timestamp",
        &[
            same("at first", first.status, 200),
            same("the state", state, "succeeded"),
            same("after 10 s", soon.status, 200),
            same("successes", effects, 1),
            same("after 301 s", late.status, 401),
            same("the step", world.last_step(), "timestamp"),
        ],
    );
    // The sandbox's own callback was held all the time; it changes nothing now.
    world.paytabs(|_| {});
    Ok(())
}

/// D.c5: rotation of secrets without a restart.
pub(super) async fn rotation(world: &World, story: &mut Story) -> Played<()> {
    story.tell("The webhook secret is rotated while everything runs.");
    let keys = world.stack.state.webhook().timestamped_keys();
    let (old, new) = (Secret::new("old", OLD_KEY)?, Secret::new("new", NEW_KEY)?);
    let with_key = async |key: &str| {
        let fresh = callback(&format!("TST-{}", world.client.number()), "A");
        let from = world.client.partner();
        world
            .client
            .deliver(&Delivery::signed(key, world.now(), &from, fresh))
            .await
    };
    keys.replace([(old, None), (new.clone(), None)])?;
    let (old_before, new_before) = (with_key(OLD_KEY).await?, with_key(NEW_KEY).await?);
    keys.replace([(new, None)])?;
    let (old_after, new_after) = (with_key(OLD_KEY).await?, with_key(NEW_KEY).await?);
    let mut facts = passed(&old_before);
    facts.extend(passed(&new_before));
    facts.push(same("the old one afterwards", old_after.status, 401));
    facts.extend(passed(&new_after));
    story.check(
        "D.c5",
        "both secrets work, then only the new one, without a restart",
        &facts,
    );
    keys.replace([(Secret::new("webhook-1", OLD_KEY)?, None)])?;
    Ok(())
}

/// D.c9: another order of the checks, in a second application.
pub(super) async fn order(world: &World, story: &mut Story) -> Played<()> {
    story.tell("A second application checks in the order signature, IP, timestamp.");
    let stack = Stack::start(config(reordered(settings()?))).await?;
    let events = stack.state.bus().recorder();
    let other = World {
        client: world.client.beside(&stack.gateway_url)?,
        stack,
        events,
    };
    let mut facts = Vec::new();
    for (broken, step) in [
        ("all", "signature"),
        ("ip", "source"),
        ("time", "timestamp"),
    ] {
        let mut delivery = other.delivery("TST-UNKNOWN");
        delivery.timestamp = (other.now().as_secs() - 3600).to_string();
        if broken != "time" {
            delivery.from = FOREIGNER.to_owned();
        }
        if broken != "all" {
            delivery = delivery.sign(OLD_KEY);
        }
        other.client.deliver(&delivery).await?;
        facts.push(same(broken, other.last_step(), step));
    }
    story.check(
        "D.c9",
        "failures are reported in the configured order",
        &facts,
    );
    other.stack.stop().await;
    Ok(())
}

impl World {
    /// A right delivery about a transaction.
    fn delivery(&self, tran_ref: &str) -> Delivery {
        let from = self.client.partner();
        Delivery::signed(OLD_KEY, self.now(), &from, callback(tran_ref, "A"))
    }

    /// The step of the last refusal.
    fn last_step(&self) -> String {
        match self
            .last("webhook.rejected")
            .map(|event| event.data.clone())
        {
            Some(EventData::WebhookRejected { step, .. }) => step,
            _ => String::new(),
        }
    }
}

/// Breaks the steps from `number` on; what comes before is right.
fn broken_from(world: &World, number: usize) -> Delivery {
    let mut delivery = world.delivery("TST-UNKNOWN");
    delivery.body = b"{}".to_vec();
    if number <= 3 {
        delivery.content_type = "text/plain";
    }
    if number <= 2 {
        delivery.from = format!("203.0.113.{}", number + 1);
    }
    if number <= 1 {
        delivery.timestamp = (world.now().as_secs() - 3600).to_string();
    }
    let right = delivery.sign(OLD_KEY);
    match number {
        0 => Delivery {
            signature: "0".repeat(64),
            ..right
        },
        _ => right,
    }
}

/// A right delivery with one bit flipped.
fn flipped(world: &World, bit: usize) -> Delivery {
    let mut delivery = world.delivery("TST-UNKNOWN");
    match bit % 3 {
        0 => {
            let at = bit * 7 % delivery.body.len();
            delivery.body[at] ^= 1 << (bit % 8);
        }
        // The low bits keep digits digits, so that it is the signature that refuses.
        1 => delivery.timestamp = flip_text(&delivery.timestamp, 9, bit / 3 % 2),
        _ => delivery.signature = flip_text(&delivery.signature, bit % 64, 0),
    }
    delivery
}

fn flip_text(text: &str, at: usize, bit: usize) -> String {
    let flip = |(index, c): (usize, char)| match (index == at, c) {
        (false, c) => c,
        (true, c) => char::from(u8::try_from(c).unwrap_or(b'0') ^ (1 << bit)),
    };
    text.chars().enumerate().map(flip).collect()
}

/// The pipeline let it through: the payment service looked for it and found nothing.
fn passed(answer: &Answer) -> Vec<Fact> {
    vec![fact(
        answer.status == 404,
        format!("the answer was {}", answer.status),
    )]
}

/// Repeatable garbage (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn text(&mut self, longest: u64) -> String {
        let length = self.next() % longest;
        (0..length)
            .map(|_| char::from(u8::try_from(33 + self.next() % 94).unwrap_or(b'?')))
            .collect()
    }

    fn delivery(&mut self, world: &World) -> Delivery {
        let length = self.next() % 400;
        Delivery {
            from: if self.next().is_multiple_of(4) {
                self.text(30)
            } else {
                world.client.partner()
            },
            body: (0..length).map(|_| self.next().to_le_bytes()[0]).collect(),
            content_type: "application/json",
            timestamp: if self.next().is_multiple_of(2) {
                self.text(16)
            } else {
                world.now().as_secs().to_string()
            },
            signature: self.text(80),
        }
    }
}
