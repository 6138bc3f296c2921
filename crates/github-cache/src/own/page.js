"use strict";
// The server renders the page, and sends what is in `main` again whenever it has changed.
const state = document.getElementById("state");
const place = new URL(location.pathname.endsWith("/") ? "events" : "-/events", location.href);
let events = null;

const put = (html) => {
  const main = document.querySelector("main");
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  if (fresh.children.length !== main.children.length) {
    main.replaceChildren(...fresh.childNodes);
    return;
  }
  // What is the same stays, with its focus and as far as it was scrolled.
  [...main.children].forEach((old, index) => {
    if (old.outerHTML !== fresh.children[0].outerHTML) old.replaceWith(fresh.children[0]);
    else fresh.children[0].remove();
  });
};

const watch = () => {
  if (document.hidden || events) return;
  events = new EventSource(place);
  events.addEventListener("main", (event) => {
    put(JSON.parse(event.data));
    state.textContent = "live";
  });
  events.addEventListener("error", () => {
    state.textContent = "not updated: the server does not answer";
    if (events.readyState !== EventSource.CLOSED) return;
    events = null;
    setTimeout(watch, 5000);
  });
};

document.addEventListener("visibilitychange", () => {
  if (document.hidden && events) {
    events.close();
    events = null;
    state.textContent = "not updated while it is hidden";
  }
  watch();
});
watch();
