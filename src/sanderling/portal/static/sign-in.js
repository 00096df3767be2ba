// Takes the one-time code out of the address, where it would stay in the history, and sends it once.
"use strict";
const code = location.hash.slice(1);
if (code) {
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.querySelector("form[data-sign-in]");
  form.elements.code.value = decodeURIComponent(code);
  form.requestSubmit();
}
