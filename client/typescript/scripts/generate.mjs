// Generates src/gen from protos/: `npm run generate`. `npm run generate:check` only says whether src/gen is current.
//
// The compiler and google/rpc/*.proto come from the Python packages that `make protos` uses for the Python client, so
// that both clients are made of the same files.

import { execFileSync } from "node:child_process";
import { mkdtempSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const REPOSITORY = dirname(dirname(PACKAGE));
const VENV = "build/proto-venv";
const GENERATED = join(PACKAGE, "src", "gen");

function generate(folder) {
  execFileSync("make", ["--silent", "--directory", REPOSITORY, `${VENV}/.installed`], { stdio: "inherit" });
  const python = join(REPOSITORY, VENV, "bin", "python");
  const packages = execFileSync(python, ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]);
  const protos = join(REPOSITORY, "protos");
  const own = readdirSync(join(protos, "stepwire", "v1")).map((file) => `stepwire/v1/${file}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  execFileSync(
    python,
    [
      "-m",
      "grpc_tools.protoc",
      `--plugin=protoc-gen-es=${join(PACKAGE, "node_modules", ".bin", "protoc-gen-es")}`,
      `--es_out=${folder}`,
      "--es_opt=target=ts,import_extension=js",
      `--proto_path=${protos}`,
      `--proto_path=${packages.toString().trim()}`,
      ...own,
      "google/rpc/error_details.proto",
      "google/rpc/status.proto",
    ],
    { stdio: "inherit" },
  );
}

function contents(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((file) => join(file.parentPath ?? file.path, file.name));
  return new Map(paths.map((path) => [path.slice(folder.length + 1), readFileSync(path, "utf8")]));
}

if (process.argv[2] === "--check") {
  const fresh = mkdtempSync(join(tmpdir(), "stepwire-gen-"));
  try {
    generate(fresh);
    const [wanted, found] = [contents(fresh), contents(GENERATED)];
    const stale = [...new Set([...wanted.keys(), ...found.keys()])].filter((f) => wanted.get(f) !== found.get(f));
    if (stale.length > 0) {
      console.error(`Not what protos/ gives (npm run generate): ${stale.sort().join(", ")}`);
      process.exitCode = 1;
    } else {
      console.log("The generated code is current.");
    }
  } finally {
    rmSync(fresh, { recursive: true });
  }
} else {
  generate(GENERATED);
}
