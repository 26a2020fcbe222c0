// Live updates by server-sent events, and buttons that leave the page in place.
// Without this script the page still works: buttons post and come back.
"use strict";
const KEPT = 40;
const byId = (id) => document.getElementById(id);
const live = byId("live");
const say = (on) => { live.dataset.live = on ? "yes" : "no"; live.textContent = on ? "live" : "not live"; };

const source = new EventSource("/status/events");
source.onopen = () => say(true);
source.onerror = () => say(false);
for (const part of ["breakers", "payments", "paytabs"]) {
  // The server escapes every value in these fragments.
  source.addEventListener(part, (message) => { byId(part).innerHTML = message.data; });
}
source.addEventListener("log", (message) => {
  const log = byId("log");
  log.insertAdjacentHTML("afterbegin", message.data);
  while (log.children.length > KEPT) log.lastElementChild.remove();
});

for (const form of document.querySelectorAll("#controls form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { "x-status-script": "1" } });
      byId("said").textContent = await answer.text();
    } catch {
      byId("said").textContent = "The application does not answer.";
    }
  });
}
