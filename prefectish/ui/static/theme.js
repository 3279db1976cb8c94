// Light, dark, or as the system has it; kept in this browser.

const order = ["auto", "light", "dark"];
const root = document.documentElement;

function chosen() {
  try {
    return order.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";
  } catch {
    return "auto";  // a browser that keeps nothing
  }
}

function apply(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  const button = document.getElementById("theme");
  if (button) {
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    button.setAttribute("aria-label", `colours: ${theme}`);
    button.title = `colours: ${theme}`;
  }
  window.dispatchEvent(new Event("themechange"));
}

export function setUpTheme() {
  apply(chosen());
  document.getElementById("theme")?.addEventListener("click", () => {
    const next = order[(order.indexOf(chosen()) + 1) % order.length];
    try {
      localStorage.setItem("theme", next);
    } catch {
      // it holds for this page
    }
    apply(next);
  });
}
