// Parses PromQL and LogQL with the grammars of Prometheus' and Grafana's own editors.
//
// stdin:  [{"language": "promql" | "logql", "text": "..."}, ...]
// stdout: [{"error": null | "...", "tree": null | [name, text, [child, ...]]}, ...]
import { readFileSync } from "node:fs";
import { parser as logql } from "@grafana/lezer-logql";
import { parser as promql } from "@prometheus-io/lezer-promql";

const parsers = { promql, logql };

function errorIn(tree, text) {
  let error = null;
  tree.iterate({
    enter(node) {
      if (error === null && node.type.isError) {
        const rest = text.slice(node.from, node.from + 30);
        error = `character ${node.from + 1}: ${rest === "" ? "something is missing at the end" : `not understood: ${rest}`}`;
      }
    },
  });
  return error;
}

function asList(node, text) {
  const children = [];
  for (let child = node.firstChild; child; child = child.nextSibling) children.push(asList(child, text));
  return [node.name, text.slice(node.from, node.to), children];
}

const answers = JSON.parse(readFileSync(0, "utf8")).map(({ language, text }) => {
  const tree = parsers[language].parse(text);
  const error = text.trim() === "" ? "empty" : errorIn(tree, text);
  return { error, tree: error === null ? asList(tree.topNode, text) : null };
});
process.stdout.write(JSON.stringify(answers));
