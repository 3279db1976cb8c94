// Says whether the page is connected, and brings it up to date when the server or the network is back.

import { atClock } from "./times.js";

// The server gives a sign of life every 15 seconds; a connection without one is dead, whatever the browser thinks.
const SILENCE = 40_000;

let seen = Date.now();
let state = "connecting";
let source = null;

function element(id) {
  return document.getElementById(id);
}

function show(next, mark, line = "") {
  state = next;
  const link = element("link-state");
  link.dataset.state = next;
  if (link.textContent !== mark) link.textContent = mark;
  const told = element("lost");
  if (told.textContent !== line) told.textContent = line;
  told.hidden = !line;
}

function lose() {
  if (state === "lost") return;
  show("lost", "not connected", `Not connected, last seen ${atClock(new Date(seen))}. This page comes back by itself.`);
}

function find() {
  seen = Date.now();
  if (state === "trouble") return;
  const wasLost = state === "lost";
  if (state !== "live") show("live", "live");
  if (wasLost) document.body.dispatchEvent(new CustomEvent("again"));  // what has changed since is fetched
}

// Beside the approvals in the navigation, whatever page it is.
function showQuestions(number) {
  const mark = element("questions");
  mark.hidden = !(Number(number) > 0);
  mark.querySelector(".number").textContent = number;
}

function follow(opened) {
  source = opened;
  source.addEventListener("questions", (event) => showQuestions(event.data));
  source.addEventListener("alive", find);
  source.addEventListener("trouble", (event) => show("trouble", "connected", `What is shown is that of ${atClock(new Date(seen))}: ${event.data}`));
  source.addEventListener("well", () => {
    state = "lost";
    find();
  });
}

// A machine that slept, or a network that went away, closes no connection: it is opened anew.
function watch() {
  if (!source || Date.now() - seen < SILENCE) return;
  lose();
  seen = Date.now();
  source.close();
  source.dispatchEvent(new Event("error"));  // the extension of htmx connects again
}

export function watchConnection() {
  const { body } = document;
  body.addEventListener("htmx:sseOpen", (event) => {
    if (event.detail.source !== source) follow(event.detail.source);
    if (state === "trouble") state = "lost";
    find();
  });
  for (const name of ["htmx:sseMessage", "htmx:afterOnLoad"]) body.addEventListener(name, find);
  for (const name of ["htmx:sseError", "htmx:sendError", "htmx:timeout"]) body.addEventListener(name, lose);
  window.addEventListener("offline", lose);
  window.addEventListener("online", () => body.dispatchEvent(new CustomEvent("again")));
  setInterval(watch, 5000);
}
