// Buttons ask once, in the dialog of the page: `<button data-ask="ADDRESS" data-fields="{...}" data-question="...">`.
// The line `#told` says what became of it, and who asked.

function hidden(name, value) {
  const input = document.createElement("input");
  input.type = "hidden";
  input.name = name;
  input.value = typeof value === "string" ? value : JSON.stringify(value);
  return input;
}

function fieldOf(facts) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: facts.type || "text", name: facts.name, value: facts.value ?? "", required: !facts.optional });
  if (facts.min !== undefined) input.min = facts.min;
  label.append(facts.label, input);
  return label;
}

function open(button) {
  const dialog = document.getElementById("asks");
  const form = dialog.querySelector("form");
  form.action = new URL(button.dataset.ask, document.baseURI);
  dialog.querySelector("h2").textContent = button.dataset.question;
  const hint = dialog.querySelector(".hint");
  hint.textContent = button.dataset.hint || "";
  hint.hidden = !button.dataset.hint;
  const fields = dialog.querySelector(".fields");
  fields.replaceChildren(...Object.entries(JSON.parse(button.dataset.fields || "{}")).map(([name, value]) => hidden(name, value)));
  for (let facts = JSON.parse(button.dataset.input || "null"); facts; facts = facts.and) fields.append(fieldOf(facts));
  const confirm = dialog.querySelector("button.main");
  confirm.textContent = button.dataset.confirm || button.textContent;
  confirm.classList.toggle("danger", button.classList.contains("danger"));
  confirm.disabled = false;
  dialog.querySelector(".error").textContent = "";
  dialog.showModal();
  (fields.querySelector("label input") || confirm).focus();
}

// A form of its own asks, too, and shows what was chosen.
function confirmForm(form) {
  if (!form.reportValidity()) return;
  const dialog = form.querySelector("dialog");
  const chosen = [...form.elements].filter((input) => input.name && input.type !== "hidden" && !dialog.contains(input));
  dialog.querySelector(".chosen").replaceChildren(...chosen.map((input) => {
    const row = document.createElement("div");
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = input.labels[0]?.firstChild.textContent.trim() || input.name;
    value.textContent = input.selectedOptions?.[0].textContent || input.value || "(empty)";
    row.append(name, value);
    return row;
  }));
  dialog.showModal();
  dialog.querySelector("button.main").focus();
}

async function send(form) {
  const buttons = form.querySelectorAll("button");
  const said = form.querySelector(".error");
  for (const button of buttons) button.disabled = true;
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { "HX-Request": "true", "X-CSRF-Token": document.body.dataset.csrf },
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(reason(text));
    (form.closest("dialog") || form.querySelector("dialog"))?.close();
    tell(text);
  } catch (error) {
    form.querySelector("dialog")?.close();
    said.textContent = error instanceof TypeError ? "There is no connection: it was not asked." : error.message;
  }
  for (const button of buttons) button.disabled = false;
}

// A refusal is JSON, a fragment or a line; what counts is its text.
function reason(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return new DOMParser().parseFromString(text, "text/html").body.textContent.trim() || "It was refused.";
  }
}

function tell(fragment) {
  const line = document.getElementById("told");
  line.innerHTML = fragment;  // rendered by the server, with all values escaped
  htmx.process(line);
  document.body.dispatchEvent(new CustomEvent("again"));
}

async function copy(button) {
  const text = document.getElementById(button.dataset.copies).textContent;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    button.textContent = "select it, and copy by hand";  // browsers give no clipboard to plain http
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

export function setUpAsking() {
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-ask]");
    if (opener) open(opener);
    event.target.closest("[data-closes]")?.closest("dialog").close();
    const confirms = event.target.closest("[data-confirms]");
    if (confirms) confirmForm(confirms.form);
    const copier = event.target.closest("[data-copies]");
    if (copier) copy(copier);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-sent]")) return;
    event.preventDefault();
    send(event.target);
  });
}
