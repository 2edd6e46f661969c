// Reads functions from a stack.yaml of faas-cli, or from a deployment as the API takes it. The parser of YAML, which
// reads JSON too, is fetched with the first text.

/** Keys of faas-cli that are about building and shell, not about what runs. */
const OF_BUILDS = ["lang", "handler", "build_args", "build_options", "build_secrets", "skip_build", "platforms", "publish"];

/**
 * What a text would deploy; fails with what is wrong with it.
 * @param {string} text @returns {Promise<{ deployments: Api.FunctionDeployment[], warnings: string[] }>}
 */
export async function fromStack(text) {
  const { load } = await import("../vendor/yaml.js");
  return deploymentsOf(load(text));
}

/** The same for what was parsed; pure. @param {unknown} document */
export function deploymentsOf(document) {
  const root = record(document, "The file");
  if ("service" in root) return { deployments: [/** @type {Api.FunctionDeployment} */ (/** @type {unknown} */ (root))], warnings: [] };
  if (!("functions" in root)) throw new Error("There is neither `functions` (a stack.yaml) nor `service` (one deployment).");
  /** @type {string[]} */
  const warnings = [];
  const deployments = Object.entries(record(root.functions, "functions")).map(([name, value]) => deploymentOf(name, record(value, name), warnings));
  if (!deployments.length) throw new Error("`functions` has none.");
  return { deployments, warnings };
}

/** @param {string} name @param {Record<string, any>} of @param {string[]} warnings @returns {Api.FunctionDeployment} */
function deploymentOf(name, of, warnings) {
  /** @type {Record<string, (value: any) => Partial<Api.FunctionDeployment>>} */
  const keys = {
    name: (value) => ({ service: String(value) }),
    namespace: (value) => ({ namespace: String(value) }),
    image: (value) => ({ image: String(value) }),
    fprocess: (value) => ({ envProcess: String(value) }),
    environment: (value) => ({ envVars: texts(value, `${name}: environment`) }),
    labels: (value) => ({ labels: texts(value, `${name}: labels`) }),
    annotations: (value) => ({ annotations: texts(value, `${name}: annotations`) }),
    secrets: (value) => ({ secrets: list(value, `${name}: secrets`) }),
    constraints: (value) => ({ constraints: list(value, `${name}: constraints`) }),
    limits: (value) => ({ limits: texts(value, `${name}: limits`) }),
    requests: (value) => ({ requests: texts(value, `${name}: requests`) }),
    readonly_root_filesystem: (value) => ({ readOnlyRootFilesystem: value === true }),
  };
  /** @type {Api.FunctionDeployment} */
  let deployment = { service: name };
  for (const [given, value] of Object.entries(of)) {
    const read = keys[given];
    if (read) {
      if (value !== null && value !== undefined) deployment = { ...deployment, ...read(value) };
    } else if (given === "environment_file") warnings.push(`${name}: environment_file is not read; put its variables into environment.`);
    else if (!OF_BUILDS.includes(given)) warnings.push(`${name}: ${given} is not known and left out.`);
  }
  if (!deployment.image && !deployment.envProcess) throw new Error(`${name} has neither image nor fprocess.`);
  return deployment;
}

/** @param {unknown} value @param {string} where @returns {Record<string, any>} */
function record(value, where) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${where} is no mapping of names to values.`);
  return /** @type {Record<string, any>} */ (value);
}

/** Values as text, as the API wants them. @param {unknown} value @param {string} where */
const texts = (value, where) =>
  Object.fromEntries(
    Object.entries(record(value, where)).map(([name, one]) => {
      if (typeof one === "object" && one !== null) throw new Error(`${where}: ${name} is no text.`);
      return [name, String(one ?? "")];
    }),
  );

/** @param {unknown} value @param {string} where */
function list(value, where) {
  if (!Array.isArray(value)) throw new Error(`${where} is no list.`);
  return value.map(String);
}
