//! H8 and G: the outbox, and what is given up.

use std::time::Duration;

use super::client::Played;
use super::story::{Story, fact, same};
use super::world::World;
use crate::domain::event::{Event, EventData, Source, Timestamp};
use crate::ports::{DeadLetter, Entry};

/// H8.1
pub(super) async fn published(world: &World, story: &mut Story) -> Played<()> {
    story.tell("Whatever happened to the payments so far was written into the outbox with it.");
    let empty = eventually(async || Ok(world.stack.state.outbox().depth().await?.waiting == 0));
    let empty = empty.await?;
    let succeeded = "SELECT COUNT(*) FROM payments WHERE status = 'succeeded'";
    let succeeded = count(world, succeeded).await?;
    let journal = count(world, "SELECT COUNT(*) FROM journal").await?;
    let sums = "SELECT (SELECT COALESCE(SUM(amount_minor), 0) FROM journal) \
                - (SELECT COALESCE(SUM(amount_minor), 0) FROM payments WHERE status = 'succeeded')";
    story.check(
        "H8",
        "all of it is published, and each paid payment is booked once",
        &[
            fact(empty, "something waits in the outbox"),
            fact(succeeded > 0, "no payment was paid"),
            same("lines in the journal", journal, succeeded),
            same("the difference of the sums", count(world, sums).await?, 0),
        ],
    );
    Ok(())
}

/// G.c2
pub(super) async fn dead_letter(world: &World, story: &mut Story) -> Played<()> {
    story.tell("An event names a currency that nobody knows. Another one is right behind it.");
    let before = count(world, "SELECT COUNT(*) FROM journal").await?;
    let poison = event(world, "tour-poison", "???");
    put(world, &poison).await?;
    put(world, &event(world, "tour-sound", "SAR")).await?;
    let outbox = world.stack.state.outbox();
    let died = eventually(async || Ok(outbox.dead_letter(&poison.id).await?.is_some()));
    let died = died.await?;
    let letter = outbox.dead_letter(&poison.id).await?;
    let booked = count(world, "SELECT COUNT(*) FROM journal").await? - before;
    let tries = letter.as_ref().map_or(0, |letter| letter.history.len());
    let reasons = letter.as_ref().is_some_and(names_the_currency);
    story.check(
        "G.c2",
        "it is a dead letter after six tries; the other one is booked",
        &[
            fact(died, "it did not die"),
            same("tries", tries, 6),
            fact(reasons, "a try has another reason"),
            same("booked", booked, 1),
        ],
    );

    story.tell("Only admins see it. One of them mends it and replays it, twice.");
    let editor = world.client.get("/api/v1/dead-letters").await?;
    let mend = "UPDATE dead_letters SET payload = REPLACE(payload, '???', 'SAR') WHERE id = $1";
    let pool = world.stack.state.database().write();
    sqlx::query(mend).bind(&poison.id).execute(pool).await?;
    let first = world.stack.state.replay(&poison.id).await?;
    let second = world.stack.state.replay(&poison.id).await?;
    let booked = eventually(async || {
        let lines = count(world, "SELECT COUNT(*) FROM journal").await?;
        Ok(lines - before == 2)
    });
    story.check(
        "G.6",
        "it is published and booked, once",
        &[
            same("the status for an editor", editor.status, 403),
            same("the first replay", first, true),
            same("the second replay", second, false),
            fact(booked.await?, "it was not booked"),
            same("dead letters", outbox.dead_letters(10).await?.len(), 0),
        ],
    );
    Ok(())
}

fn names_the_currency(letter: &DeadLetter) -> bool {
    let mut reasons = letter.history.iter().map(|attempt| &attempt.reason);
    reasons.all(|reason| reason.contains("currency"))
}

fn event(world: &World, payment_id: &str, currency: &str) -> Event {
    let at = Timestamp::from_unix(world.now());
    let data = EventData::PaymentSuccess {
        payment_id: payment_id.to_owned(),
        provider_ref: "tour".to_owned(),
        amount: "12.50".to_owned(),
        currency: currency.to_owned(),
        verified_at: at,
    };
    Event::new(Source::PaytabsService, "tour", at, data)
}

/// What a transaction of the application would write.
async fn put(world: &World, event: &Event) -> Played<()> {
    let entry = Entry::of(event)?;
    let sql = "INSERT INTO outbox (message_id, event_id, kind, key, payload, correlation_id, \
               history, created_at) VALUES ($1, $1, $2, $3, $4, 'tour', '[]', $5)";
    sqlx::query(sql)
        .bind(&entry.event_id)
        .bind(&entry.kind)
        .bind(&entry.key)
        .bind(&entry.payload)
        .bind(i64::try_from(event.occurred_at.as_millis())?)
        .execute(world.stack.state.database().write())
        .await?;
    Ok(())
}

async fn count(world: &World, sql: &'static str) -> Played<i64> {
    let pool = world.stack.state.database().read();
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

/// Waits until something holds, for at most thirty seconds; whether it did.
async fn eventually(holds: impl AsyncFn() -> Played<bool>) -> Played<bool> {
    for _ in 0..600 {
        if holds().await? {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    holds().await
}
