//! Headless Chromium behind chromedriver, for tests of pages; both end with the test.
//!
//! Needs Debian's packages `chromium` and `chromium-driver`; `make deps` installs them. With
//! `SCREENSHOTS` set to a folder, pages are photographed on their way.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// One browser with a profile of its own.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    /// Chromedriver is killed when this is dropped.
    _driver: Child,
    profile: Profile,
}

/// Chromium's folder and process, both gone after the test, however it ends.
#[derive(Debug)]
struct Profile {
    folder: PathBuf,
    process: Option<u64>,
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            // Chromium ends with its session; this is for a test that panicked before.
            let _ = std::process::Command::new("kill")
                .args(["-KILL", &process.to_string()])
                .stderr(Stdio::null())
                .status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const MISSING: &str = "the browser test needs `chromium` and `chromedriver` \
    (Debian packages chromium and chromium-driver): run `make deps`";
const START: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(20);

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// It cannot be started; the message says what to install.
    pub async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{MISSING}\nchromedriver: {error}"));
        let stdout = driver.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let port = tokio::time::timeout(START, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return port.trim_end_matches('.').to_owned();
                }
            }
            panic!("{MISSING}\nchromedriver ended without naming its port");
        })
        .await
        .expect("chromedriver names its port in time");
        // Keep its pipe empty.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

        let folder = std::env::temp_dir().join(format!("test-browser-{}", uuid::Uuid::now_v7()));
        let mut profile = Profile {
            folder,
            process: None,
        };
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(Duration::from_secs(5)));
        let mut builder = ClientBuilder::new(http);
        builder.capabilities(capabilities(&profile));
        let driver_url = format!("http://127.0.0.1:{port}");
        let connected = tokio::time::timeout(START, builder.connect(&driver_url));
        let client = match connected.await.expect("Chromium starts in time") {
            Ok(client) => client,
            Err(error) => panic!("{MISSING}\nchromium: {error}"),
        };
        profile.process = client
            .capabilities()
            .and_then(|granted| granted.get("goog:processID")?.as_u64());
        Self {
            client,
            _driver: driver,
            profile,
        }
    }

    /// Goes to a page.
    ///
    /// # Errors
    /// The page cannot be opened.
    pub async fn open(&self, url: &str) -> Result<(), String> {
        let opened = self.client.goto(url).await;
        opened.map_err(|error| format!("{url} cannot be opened: {error}"))
    }

    /// Runs a script; what it returns.
    ///
    /// # Errors
    /// It throws.
    pub async fn run(&self, script: &str) -> Result<Value, String> {
        let run = self.client.execute(script, Vec::new()).await;
        run.map_err(|error| format!("{script}: {error}"))
    }

    /// Clicks what the selector finds.
    ///
    /// # Errors
    /// It is not there, or cannot be clicked.
    pub async fn click(&self, css: &str) -> Result<(), String> {
        let button = self.client.find(Locator::Css(css)).await;
        let clicked = match button {
            Ok(button) => button.click().await,
            Err(error) => Err(error),
        };
        clicked.map_err(|error| format!("button {css}: {error}"))
    }

    /// Writes into a field, key by key.
    ///
    /// # Errors
    /// It is not there, or takes no text.
    pub async fn write(&self, css: &str, text: &str) -> Result<(), String> {
        let field = self.client.find(Locator::Css(css)).await;
        let written = match field {
            Ok(field) => field.send_keys(text).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| format!("field {css}: {error}"))
    }

    /// Waits until the expression is true in the page.
    ///
    /// # Errors
    /// It throws, or is not true for 20 seconds.
    pub async fn until(&self, expression: &str) -> Result<(), String> {
        let holds = async {
            loop {
                let value = self.run(&format!("return Boolean({expression})")).await?;
                if value == json!(true) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        match tokio::time::timeout(WAIT, holds).await {
            Ok(held) => held,
            Err(_) => {
                let text = self.run("return document.body.innerText").await;
                let text = text.unwrap_or_default();
                Err(format!(
                    "waited in vain for {expression}; the page says {text}"
                ))
            }
        }
    }

    /// Saves a picture of the page, if pictures are wanted.
    ///
    /// # Errors
    /// It cannot be saved.
    pub async fn photograph(&self, name: &str) -> Result<(), String> {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else {
            return Ok(());
        };
        let png = self
            .client
            .screenshot()
            .await
            .map_err(|error| error.to_string())?;
        let path = PathBuf::from(folder).join(format!("{name}.png"));
        std::fs::write(&path, png).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Ends the session, and with it Chromium.
    pub async fn stop(mut self) {
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(10), self.client.close()).await
        {
            self.profile.process = None;
        }
    }
}

fn capabilities(profile: &Profile) -> serde_json::Map<String, Value> {
    let data = format!("--user-data-dir={}", profile.folder.display());
    let options = json!({
        "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1200,1000", data,
        ],
    });
    let mut capabilities = serde_json::Map::new();
    capabilities.insert("goog:chromeOptions".to_owned(), options);
    capabilities
}
