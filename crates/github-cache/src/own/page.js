"use strict";
// The server renders the page; what changes is fetched and put in place of what is there.
const refresh = async () => {
  const state = document.getElementById("state");
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceChildren(...fresh.querySelector("main").childNodes);
      state.textContent = "live";
    } catch (error) {
      state.textContent = `not updated: ${error.message}`;
    }
  }
  setTimeout(refresh, 2000);
};
setTimeout(refresh, 2000);
