//! The status page in a real browser: the breaker opens, goes half-open and closes, live,
//! while the PayTabs sandbox fails and recovers.
//!
//! With `SCREENSHOTS` set to a folder the page is photographed in each state.

use std::time::Duration;

use browser::Browser;
use nestcms::settings::Settings;
use nestcms::stack::{Stack, StackConfig};

const PAYTABS: &str = "document.querySelector('[data-breaker=paytabs]')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_page_shows_the_breaker_open_half_open_and_closed_live() {
    let stack = Stack::start(StackConfig::new(settings()))
        .await
        .expect("the stack starts");
    let url = format!("{}/status", stack.gateway_url);
    let browser = Browser::start().await;
    let watched = tokio::time::timeout(Duration::from_secs(90), watch(&browser, &url)).await;
    browser.stop().await;
    stack.stop().await;
    if let Err(problem) = watched.expect("the browser took too long") {
        panic!("{problem}");
    }
}

fn settings() -> Settings {
    let text = r#"
        [database]
        path = ":memory:"
        [paytabs]
        server_key = "browser-test-server-key"
        call_timeout = "10s"
        [webhook]
        secrets = ["browser-test-webhook-secret"]
        [auth]
        jwt_secret = "browser-test-jwt-secret-of-32-bytes"
        bcrypt_cost = 4
        [breakers.paytabs]
        consecutive_failures = 5
        reset_timeout = "1500ms"
        max_reset_timeout = "1500ms"
        [status]
        enabled = true
    "#;
    Settings::from_toml(text, &[]).expect("valid settings")
}

async fn watch(browser: &Browser, url: &str) -> Result<(), String> {
    browser.open(url).await?;
    browser
        .until("document.getElementById('live').dataset.live === 'yes'")
        .await?;
    // Every state that the page shows from now on; a reload would lose the list.
    browser
        .run(&format!(
            "const note = () => {{ const s = {PAYTABS}.dataset.state;
               if (window.seen.at(-1) !== s) window.seen.push(s); }};
             window.seen = []; note();
             new MutationObserver(note).observe(document.getElementById('breakers'),
               {{childList: true, subtree: true, attributes: true}});"
        ))
        .await?;
    browser.photograph("closed").await?;

    browser.click("#do-fail").await?;
    browser
        .until("paytabs.innerText.includes('failing')")
        .await?;
    for payment in 1..=5 {
        browser.click("#do-pay").await?;
        // One at a time: the row and the answer must both be there.
        let rows = "document.querySelectorAll('#payments tr[data-status=created]').length";
        browser.until(&format!("{rows} >= {payment}")).await?;
        let said = "document.getElementById('said').innerText";
        browser.until(&format!("{said}.startsWith('try-')")).await?;
        browser
            .run("document.getElementById('said').innerText = ''")
            .await?;
    }
    browser
        .until(&format!("{PAYTABS}.dataset.state === 'open'"))
        .await?;
    browser.photograph("open").await?;

    // Slowly, so that the probe is under way for long enough to be seen.
    browser.click("#do-hold").await?;
    browser.until("paytabs.innerText.includes('slow')").await?;
    browser
        .until(&format!(
            "{PAYTABS}.innerText.includes('the next call is a probe')"
        ))
        .await?;
    browser.click("#do-pay").await?;
    browser
        .until(&format!("{PAYTABS}.dataset.state === 'half_open'"))
        .await?;
    browser.photograph("half-open").await?;
    browser
        .until(&format!("{PAYTABS}.dataset.state === 'closed'"))
        .await?;

    browser.click("#do-recover").await?;
    browser
        .until("paytabs.innerText.includes('healthy')")
        .await?;
    browser
        .until("document.querySelector('#payments tr[data-status=initiated] a[href]')")
        .await?;
    for event in ["circuit.opened", "circuit.half_open", "circuit.closed"] {
        browser
            .until(&format!(
                "document.querySelector('#log [data-event=\"{event}\"]')"
            ))
            .await?;
    }
    browser.photograph("recovered").await?;
    let seen = browser.run("return window.seen.join(' ')").await?;
    match seen.as_str() {
        Some("closed open half_open closed") => Ok(()),
        _ => Err(format!("the page showed {seen}")),
    }
}
