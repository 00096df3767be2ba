// Small helps; every page works without them.
// - [data-copy]: a button that copies a text.
// - main[data-refresh-s]: the parts marked [data-live] are fetched again and swapped, while the page is looked at.
"use strict";

function offerCopy(root) {
  for (const box of root.querySelectorAll("[data-copy]")) {
    if (box.querySelector(".copy") || !navigator.clipboard) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${box.dataset.copy}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(box.querySelector("pre").textContent.trim());
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    box.append(button);
  }
}

const seen = new Map();

function isInUse(part) {
  const active = document.activeElement;
  const isFocused = part.contains(active) && !active.matches("details[id] > summary");
  const selection = getSelection();
  return isFocused || (selection.toString() !== "" && part.contains(selection.anchorNode));
}

// Swaps the content of a part; what was unfolded, scrolled or focused in it stays so.
function swap(part, html) {
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => [one.id, one.querySelector("pre")?.scrollTop]);
  const focused = part.contains(document.activeElement) ? document.activeElement.parentElement.id : null;
  part.innerHTML = html;
  for (const [id, scrolled] of open) {
    const one = document.getElementById(id);
    if (!one) continue;
    one.open = true;
    if (scrolled) one.querySelector("pre").scrollTop = scrolled;
  }
  if (focused) document.getElementById(focused)?.querySelector("summary").focus();
  offerCopy(part);
}

async function refresh() {
  const page = document.querySelector("main[data-refresh-s]");
  if (!page) return;
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of page.querySelectorAll("[data-live]")) {
          const next = fresh.getElementById(part.id);
          if (next && next.innerHTML !== seen.get(part.id) && !isInUse(part)) {
            seen.set(part.id, next.innerHTML);
            swap(part, next.innerHTML);
          }
        }
        const pace = fresh.querySelector("main").dataset.refreshS;
        if (pace) page.dataset.refreshS = pace;
        else { delete page.dataset.refreshS; return; }
      }
    } catch { /* the server is away: the page stays as it is, and asks again */ }
  }
  setTimeout(refresh, Number(page.dataset.refreshS) * 1000);
}

offerCopy(document);
// On a narrow screen the pages' names are a strip that scrolls; the present one must be seen.
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
const paced = document.querySelector("main[data-refresh-s]");
if (paced) setTimeout(refresh, Number(paced.dataset.refreshS) * 1000);
