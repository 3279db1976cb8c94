// What each page begins: times, colours, dialogs, the line that says whether it is connected, and what follows a run.

import { setUpAsking } from "./asking.js";
import { setUpCharts } from "./charts.js";
import { watchConnection } from "./connection.js";
import { setUpLogs } from "./logs.js";
import { setUpMaps } from "./map.js";
import { setUpTheme } from "./theme.js";
import { setUpZones, showTimes } from "./times.js";

// What a person has opened or entered stays when a part of the page is renewed.
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) =>
  !(name === "open" || (["value", "checked", "selected"].includes(name) && element.closest("form")));
Idiomorph.defaults.callbacks.beforeNodeMorphed = (element) => !(element.tagName === "DIALOG" && element.open);

// Tables that are wider than the screen scroll, and then by keyboard, too.
function scrollByKeyboard() {
  for (const element of document.querySelectorAll(".scroll")) {
    if (element.scrollWidth > element.clientWidth) {
      element.tabIndex = 0;
      element.setAttribute("role", "group");
      element.setAttribute("aria-label", element.dataset.name || "table");
    } else {
      element.removeAttribute("tabindex");
      element.removeAttribute("role");
      element.removeAttribute("aria-label");
    }
  }
}

function renew() {
  showTimes();
  setUpCharts();
  setUpLogs();
  setUpMaps();
  scrollByKeyboard();
}

setUpTheme();
setUpAsking();
setUpZones();
watchConnection();
renew();
for (const name of ["htmx:sseMessage", "htmx:afterSettle", "again"]) document.body.addEventListener(name, renew);
window.addEventListener("resize", scrollByKeyboard);
