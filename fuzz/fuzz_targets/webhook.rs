//! Deliveries of every scheme with a signature in a header, the presets' and one's own: signed,
//! then changed as somebody on the way could. Accepted is exactly what a plain reading of the
//! documentation accepts, with the same key, time and name, whole and in chunks.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resilience_fuzz::{
    Choices,
    webhook::{
        Accepted,
        changes::{CLOCK, Delivery, PRESETS, Subject, change, genuine},
        custom::custom,
        judge, length_fits,
    },
};
use webhook_verify::Verified;

fuzz_target!(|data: &[u8]| {
    let _ = run(Choices::new(data));
});

fn run(mut choices: Choices<'_>) -> Option<()> {
    let which = usize::from(choices.byte()?);
    let [rare, usual @ ..] = &PRESETS[..] else {
        return None;
    };
    if which == 200 {
        return hold(rare, choices);
    }
    if which < 200 {
        return hold(&usual[which % usual.len()], choices);
    }
    let custom = custom(&mut choices)?;
    let scheme = custom.builder.build().ok()?;
    hold(&Subject::new(custom.plain, scheme, &CLOCK), choices)
}

fn hold(subject: &Subject, mut choices: Choices<'_>) -> Option<()> {
    let index = choices.below(subject.verifiers.len())?;
    let chunk = choices.below(40)? + 1;
    let mut delivery = genuine(subject, &mut choices)?;
    if chunk % 8 == 0 {
        check(subject, index, chunk, &delivery);
    }
    while change(&mut delivery, subject, &mut choices).is_some() {}
    check(subject, index, chunk, &delivery);
    Some(())
}

fn check(subject: &Subject, index: usize, chunk: usize, delivery: &Delivery) {
    let Delivery { parts, body, now } = delivery;
    CLOCK.set(Duration::from_millis(*now));
    let verifier = &subject.verifiers[index];
    let receiver = subject.receiver(index, *now);
    let books = judge(&subject.plain, &receiver, parts, body);
    let whole = verifier.verify(parts, None, body);
    assert_eq!(
        whole.as_ref().ok().map(known),
        books,
        "{whole:?} for {parts:?} in {:?}",
        subject.plain
    );
    let streamed = verifier.begin(parts, None).and_then(|mut session| {
        body.chunks(chunk)
            .try_for_each(|chunk| session.update(chunk))?;
        session.finish()
    });
    // A claimed length is judged in streams only.
    let books = books.filter(|_| length_fits(&parts.headers, receiver.limit));
    assert_eq!(streamed.as_ref().ok().map(known), books, "{parts:?}");
    if let (Err(whole), Err(streamed)) = (&whole, &streamed)
        && !parts.headers.contains_key("content-length")
        && body.len() <= receiver.limit
    {
        assert_eq!(whole, streamed, "one reason for both");
    }
}

fn known(verified: &Verified) -> Accepted {
    let ids = ["new", "old", "pair"];
    let key = ids.into_iter().find(|id| *id == verified.key_id());
    Accepted {
        key: key.expect("one of the keys"),
        timestamp: verified.timestamp(),
        replay_key: *verified.replay_key(),
    }
}
