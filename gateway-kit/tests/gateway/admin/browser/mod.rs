//! The page in a real browser: who signs in, what it shows of traffic, what its buttons do.
//!
//! Needs Debian's packages `chromium` and `chromium-driver`; `make deps` installs them. With
//! `GATEWAY_SCREENSHOTS` set to a folder the page is photographed on its way.

mod driver;

use std::time::Duration;

use driver::Browser;
use gateway_kit::Gateway;
use gateway_kit::config::Source;

use super::{SECTION, TOKEN};
use crate::support::{Running, Upstream};

const HOSTILE: &str = "<img src=x onerror='window.taken=1'>\"&";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_runs_and_its_buttons_change_it() {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let endpoints = upstreams
        .each_ref()
        .map(|one| format!("\"http://{}\"", one.addr));
    let good = format!(
        "listen = \"127.0.0.1:0\"\nreload = false\n\
         [[route]]\nname = {HOSTILE:?}\nprefix = \"/\"\nupstream = \"shop\"\n\
         [upstream.shop]\nendpoints = [{}]\nbulkhead = {{ limit = 9 }}\n\
         [rate_limit]\nrequests = 60000\n{SECTION}",
        endpoints.join(", ")
    );
    let file = std::env::temp_dir().join(format!("gateway-{}-page.toml", std::process::id()));
    std::fs::write(&file, &good).unwrap();
    let source =
        Source::file(&file).variables(|name| (name == "ADMIN_TOKEN").then(|| TOKEN.to_owned()));
    let builder = Gateway::builder(source.load().unwrap()).source(source);
    let gateway = Running::of(builder).await;
    std::fs::write(&file, good.replace("limit = 9", "limit = 0")).unwrap();

    let browser = Browser::start().await;
    let used = tokio::time::timeout(
        Duration::from_secs(120),
        everything(&browser, &gateway, &upstreams),
    );
    let used = used.await;
    browser.stop().await;
    let _ = std::fs::remove_file(&file);
    if let Err(problem) = used.expect("the browser took too long") {
        panic!("{problem}");
    }
}

async fn everything(
    browser: &Browser,
    gateway: &Running,
    upstreams: &[Upstream; 2],
) -> Result<(), String> {
    let address = gateway.admin_addr.unwrap();
    browser.open(&format!("http://{address}/admin/")).await?;
    sign_in(browser).await?;
    traffic(browser, gateway).await?;
    drain(browser, gateway, upstreams).await?;
    limit(browser, gateway).await?;
    refused_reload(browser).await?;
    hostile_name(browser).await?;
    browser.photograph("admin").await?;
    browser.click("#sign-out").await?;
    browser
        .until("document.getElementById('page').hidden")
        .await?;
    // What was shown is gone with the token.
    browser
        .until("document.querySelectorAll('#endpoints tr').length === 0")
        .await
}

async fn sign_in(browser: &Browser) -> Result<(), String> {
    for (token, said) in [
        ("not-the-token-of-it", "Not signed in"),
        (TOKEN, "Signed in"),
    ] {
        browser.write("#token", token).await?;
        browser.click("#sign-in button").await?;
        let message = format!("document.getElementById('message').innerText.startsWith('{said}')");
        browser.until(&message).await?;
        let hidden = token != TOKEN;
        let page = format!("document.getElementById('page').hidden === {hidden}");
        browser.until(&page).await?;
    }
    browser
        .until("document.getElementById('live').dataset.live === 'yes'")
        .await?;
    // Every button says what it is for.
    browser
        .until("[...document.querySelectorAll('button')].every(one => one.innerText || one.getAttribute('aria-label'))")
        .await
}

async fn traffic(browser: &Browser, gateway: &Running) -> Result<(), String> {
    let good =
        "Number(document.querySelector('#endpoints td:nth-child(6)').innerText.split(' ')[0])";
    browser.until(&format!("{good} === 0")).await?;
    for _ in 0..50 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    browser.until(&format!("{good} === 25")).await?;
    browser
        .until("document.querySelector('[data-chart=requests] polyline').getAttribute('points').includes(' ')")
        .await?;
    browser
        .until("document.querySelector('[data-chart=requests] svg').getAttribute('aria-label').match(/^Requests per second: now .* at most [0-9.]*[1-9]/)")
        .await
}

async fn drain(
    browser: &Browser,
    gateway: &Running,
    upstreams: &[Upstream; 2],
) -> Result<(), String> {
    let row = format!("tr[data-endpoint='{}']", upstreams[0].addr);
    let is = |state: &str| format!("document.querySelector(\"{row}\").dataset.state === '{state}'");
    browser.until(&is("up")).await?;
    // Asked, and not confirmed.
    browser.click(&format!("{row} [data-do=drain]")).await?;
    browser.until("document.getElementById('ask').open").await?;
    browser.click("#ask button[value=no]").await?;
    browser
        .until("!document.getElementById('ask').open")
        .await?;
    assert_eq!(gateway.handle.endpoints()[0].weight, 1);
    browser.click(&format!("{row} [data-do=drain]")).await?;
    browser.until("document.getElementById('ask').open").await?;
    browser.click("#ask-yes").await?;
    browser.until(&is("drained")).await?;
    let before = upstreams[0].calls();
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(upstreams[0].calls(), before);
    browser.photograph("drained").await?;
    browser.click(&format!("{row} [data-do=restore]")).await?;
    browser.until("document.getElementById('ask').open").await?;
    browser.click("#ask-yes").await?;
    browser.until(&is("up")).await?;
    browser
        .until("document.getElementById('changes').innerText.includes('endpoint.weight')")
        .await
}

async fn limit(browser: &Browser, gateway: &Running) -> Result<(), String> {
    browser
        .click("#limits tr:nth-child(2) [data-do=limit]")
        .await?;
    browser.until("document.getElementById('ask').open").await?;
    browser
        .run("document.getElementById('ask-0').value = '7'")
        .await?;
    browser.click("#ask-yes").await?;
    browser
        .until("document.getElementById('limits').innerText.includes('changed by hand')")
        .await?;
    assert_eq!(gateway.handle.bulkheads()[0].config.limit(), 7);
    Ok(())
}

async fn refused_reload(browser: &Browser) -> Result<(), String> {
    browser.click("#reload").await?;
    browser.until("document.getElementById('ask').open").await?;
    browser.click("#ask-yes").await?;
    let row = "document.querySelector('#reloads tr[data-outcome=refused]')";
    browser
        .until(&format!("{row} && {row}.innerText.includes('bulkhead')"))
        .await?;
    browser
        .until("document.getElementById('message').innerText.startsWith('Not done')")
        .await
}

async fn hostile_name(browser: &Browser) -> Result<(), String> {
    let name = serde_json::Value::from(HOSTILE);
    browser
        .until(&format!(
            "document.querySelector('#routes td').textContent === {name}"
        ))
        .await?;
    browser
        .until("document.images.length === 0 && window.taken === undefined")
        .await
}
