// Draws ./openapi.json. Its relative server is made absolute here, so that "Execute" and the curl lines
// are right under whatever prefix a gateway serves this page.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

async function draw() {
  const source = new URL("openapi.json", location.href);
  const answer = await fetch(source);
  if (!answer.ok) throw new Error(`${source} answers ${answer.status}`);
  const spec = await answer.json();
  const servers = spec.servers ?? [{ url: "." }];
  spec.servers = servers.map((server) => ({ ...server, url: new URL(server.url, source).href.replace(/\/$/, "") }));
  SwaggerUIBundle({
    spec,
    dom_id: "#operations",
    deepLinking: true,
    displayRequestDuration: true,
    requestSnippetsEnabled: false,
    validatorUrl: null, // it would send the document's address to a service on the internet
  });
}

draw().catch((error) => {
  document.getElementById("operations").textContent = `The operations cannot be shown: ${error.message}`;
});
