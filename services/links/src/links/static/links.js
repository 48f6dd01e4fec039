// Where there is JavaScript, a button copies the short link.
const button = document.querySelector("button[data-copy]");
if (button && navigator.clipboard) {
  button.hidden = false;
  const said = document.getElementById("copied");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "The browser does not let us copy: mark the link and copy it.";
    }
  });
}
