// Copies what the portal is made of from node_modules to assets/ui/vendor, or checks that it is there unchanged.
//
//   node vendor.mjs MODULES [--write]
//
// MODULES is the directory that `npm ci` filled. What is changed on the way is in FILES and nowhere else: names of
// packages become names of files, for a browser knows no packages, and uPlot's script becomes a module.
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const [modules, flag] = process.argv.slice(2);
const vendor = fileURLToPath(new URL("../../assets/ui/vendor/", import.meta.url));

const FILES = {
  "preact.js": ["preact", "dist/preact.mjs"],
  "hooks.js": ["preact", "hooks/dist/hooks.mjs"],
  "htm.js": ["htm", "dist/htm.mjs"],
  "signals-core.js": ["@preact/signals-core", "dist/signals-core.mjs"],
  "signals.js": ["@preact/signals", "dist/signals.mjs"],
  "uplot.js": ["uplot", "dist/uPlot.iife.min.js", (text) => `${text.trimEnd()}\nexport default uPlot;\n`],
  "uplot.css": ["uplot", "dist/uPlot.min.css"],
  "yaml.js": ["js-yaml", "dist/browser/js-yaml.esm.min.mjs"],
};
// What each file is to the type checker.
const TYPES = {
  "preact.d.ts": 'export * from "preact";',
  "hooks.d.ts": 'export * from "preact/hooks";',
  "htm.d.ts": 'export { default } from "htm";',
  "signals-core.d.ts": 'export * from "@preact/signals-core";',
  "signals.d.ts": 'export * from "@preact/signals";',
  "uplot.d.ts": 'export { default } from "uplot";',
  "yaml.d.ts": 'export * from "js-yaml";',
};
const IMPORTS = { preact: "./preact.js", "preact/hooks": "./hooks.js", "@preact/signals-core": "./signals-core.js" };

const text = (...path) => readFileSync(join(modules, ...path), "utf8");
const version = (name) => JSON.parse(text(name, "package.json")).version;

function asModule(content) {
  const local = content.replace(/\b(from|import)(\s*)"([^".][^"]*)"/g, (all, word, space, name) => {
    if (!IMPORTS[name]) throw new Error(`no file for the package ${name}`);
    return `${word}${space}"${IMPORTS[name]}"`;
  });
  return `${local.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "").trimEnd()}\n`;
}

const wanted = {};
for (const [file, [name, path, change = (same) => same]] of Object.entries(FILES)) {
  wanted[file] = asModule(change(text(name, path)));
}
for (const [file, content] of Object.entries(TYPES)) wanted[file] = `${content}\n`;
const names = [...new Set(Object.values(FILES).map(([name]) => name))];
for (const name of names) {
  const licence = readdirSync(join(modules, name)).find((file) => /^licen[sc]e/i.test(file));
  if (!licence) throw new Error(`${name} has no licence`);
  wanted[`LICENSE-${name.replace("@preact/", "preact-")}.txt`] = text(name, licence);
}
wanted["README.md"] = `# Made elsewhere

Copied from npm packages by tests/portal/vendor.mjs; \`make portal\` checks that nothing here was changed by hand.
Other versions: change tests/portal/package.json, run \`npm install --ignore-scripts\` there (for the lock file), then
\`make portal ARGS=--write\`.

| file | package | version | there |
| --- | --- | --- | --- |
${Object.entries(FILES).map(([file, [name, path]]) => `| ${file} | ${name} | ${version(name)} | ${path} |`).join("\n")}

Changed on the way: names of packages in imports became names of files here, comments about source maps are left out,
and \`uplot.js\` ends with an \`export\`. The licences are beside the files.
`;

let different = 0;
if (flag === "--write") {
  rmSync(vendor, { recursive: true, force: true });
  mkdirSync(vendor, { recursive: true });
}
for (const [file, content] of Object.entries(wanted)) {
  if (flag === "--write") writeFileSync(join(vendor, file), content);
  else if (readFileSync(join(vendor, file), "utf8") !== content) {
    console.error(`vendor: assets/ui/vendor/${file} is not what the packages have`);
    different += 1;
  }
}
for (const file of readdirSync(vendor)) {
  if (!(file in wanted)) {
    console.error(`vendor: assets/ui/vendor/${file} comes from nowhere`);
    different += 1;
  }
}
console.log(`vendor: ${Object.keys(wanted).length} files of ${names.length} packages`);
process.exit(different ? 1 : 0);
