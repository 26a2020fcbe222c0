//! The page in a real browser: who signs in, what it shows of traffic, what its buttons do.
//!
//! With `SCREENSHOTS` set to a folder the page is photographed on its way.

use std::time::Duration;

use browser::Browser;
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
         [[route]]\nprefix = \"/kept\"\nupstream = \"more\"\ncache = {{}}\n\
         [upstream.shop]\nendpoints = [{}]\nbulkhead = {{ limit = 9 }}\n\
         [upstream.more]\ndiscovery = {{ api = true }}\n\
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
    registration(browser, gateway).await?;
    cache(browser, gateway).await?;
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

/// Confirms what a button asks, after `script` has filled in what it asks for.
async fn confirm(browser: &Browser, button: &str, script: &str) -> Result<(), String> {
    browser.click(button).await?;
    browser.until("document.getElementById('ask').open").await?;
    browser.run(script).await?;
    browser.click("#ask-yes").await?;
    browser.until("!document.getElementById('ask').open").await
}

async fn registration(browser: &Browser, gateway: &Running) -> Result<(), String> {
    let upstream = Upstream::answering(|_| {
        let answer = http::Response::builder().header("cache-control", "max-age=600");
        answer.body(http_body_util::Full::from("kept")).unwrap()
    })
    .await;
    let hidden = "document.querySelector(\"tr[data-service='shop'] [data-do=register]\").hidden";
    browser.until(hidden).await?;
    let known = "document.querySelector('tr[data-endpoint] [data-do=renew]').hidden";
    browser.until(known).await?;
    let register = "tr[data-service='more'] [data-do=register]";
    // What is no address is refused by the API, and told.
    confirm(
        browser,
        register,
        "document.getElementById('ask-0').value = 'nowhere'",
    )
    .await?;
    browser
        .until("document.getElementById('message').innerText.startsWith('Not done')")
        .await?;
    let fill = format!(
        "document.getElementById('ask-0').value = '{}';
         document.getElementById('ask-2').value = '7';
         document.getElementById('ask-4').value = 'near'",
        upstream.addr
    );
    confirm(browser, register, &fill).await?;
    let row = format!("tr[data-endpoint='{}']", upstream.addr);
    let told = format!("document.querySelector(\"{row}\")");
    browser
        .until(&format!("{told} && {told}.innerText.includes('near')"))
        .await?;
    let endpoint = || {
        let mut endpoints = gateway.handle.endpoints().into_iter();
        endpoints.find(|one| one.address == upstream.addr.to_string())
    };
    let first = endpoint().unwrap();
    assert!(first.expires_in.unwrap() <= Duration::from_secs(300));
    assert_eq!((first.weight, first.zone.as_deref()), (7, Some("near")));
    assert_eq!(gateway.get("/kept/a").await.status, 200);
    assert_eq!(gateway.get("/kept/a").await.status, 200);
    assert_eq!(upstream.calls(), 1);
    let renew = format!("{row} [data-do=renew]");
    confirm(
        browser,
        &renew,
        "document.getElementById('ask-0').value = '5000'",
    )
    .await?;
    browser
        .until("document.getElementById('message').innerText.endsWith('is renewed.')")
        .await?;
    let renewed = endpoint().unwrap();
    assert!(renewed.expires_in.unwrap() > Duration::from_secs(4000));
    assert_eq!((renewed.weight, renewed.zone.as_deref()), (7, Some("near")));
    browser.photograph("registered").await?;
    confirm(browser, &format!("{row} [data-do=deregister]"), "").await?;
    browser.until(&format!("{told} === null")).await?;
    assert!(endpoint().is_none());
    Ok(())
}

async fn cache(browser: &Browser, gateway: &Running) -> Result<(), String> {
    let says = |name: &str, value: &str| {
        format!(
            "[...document.querySelectorAll('#cache-figures div')]
                 .some(one => one.innerText.replace(/\\s+/, ' ') === '{name} {value}')"
        )
    };
    browser
        .until("!document.getElementById('cache').hidden")
        .await?;
    for (name, value) in [("Addresses", "1"), ("hit", "1"), ("miss", "1")] {
        browser.until(&says(name, value)).await?;
    }
    let below = "document.getElementById('ask-0').value = 'below'";
    confirm(browser, "#purge", below).await?;
    browser.until(&says("Addresses", "0")).await?;
    assert_eq!(gateway.handle.cache().unwrap().addresses, 0);
    browser
        .until("document.getElementById('changes').innerText.includes('cache.purge')")
        .await
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
