// Compiles the contracts into out/*.json; with --check, compares them with what is there.
"use strict";

const fs = require("fs");
const path = require("path");
const solc = require("solc");

const ROOT = __dirname;
const OUT = path.join(ROOT, "out");

// Everything runs on chains of this level: no opcode or precompile that came later.
const SETTINGS = {
  evmVersion: "paris",
  viaIR: true,
  optimizer: { enabled: true, runs: 1_000_000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};
const FORBIDDEN = { 0x5c: "TLOAD", 0x5d: "TSTORE", 0x5e: "MCOPY", 0x5f: "PUSH0" };
const MAX_DEPLOYED = 24_576;

function sources() {
  const found = {};
  for (const folder of ["", "examples", "test"]) {
    for (const name of fs.readdirSync(path.join(ROOT, folder)).sort()) {
      const file = path.posix.join(folder, name);
      if (name.endsWith(".sol")) found[file] = { content: fs.readFileSync(path.join(ROOT, file), "utf8") };
    }
  }
  return found;
}

function readImport(name) {
  try {
    return { contents: fs.readFileSync(path.join(ROOT, "node_modules", name), "utf8") };
  } catch (error) {
    return { error: error.message };
  }
}

function compile() {
  const input = { language: "Solidity", sources: sources(), settings: SETTINGS };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
  const errors = output.errors ?? [];
  for (const error of errors) console.error(error.formattedMessage);
  if (errors.length > 0) process.exit(1);
  const artifacts = {};
  for (const file of Object.keys(input.sources)) {
    for (const [name, contract] of Object.entries(output.contracts[file] ?? {})) {
      const { bytecode, deployedBytecode } = contract.evm;
      // Libraries go into the contracts that use them, and interfaces have no code.
      const isContract = new RegExp(`^contract ${name}\\b`, "m").test(input.sources[file].content);
      if (!isContract) continue;
      checkCode(name, bytecode.object, deployedBytecode.object);
      artifacts[`${name}.json`] = `${JSON.stringify(
        { abi: contract.abi, bytecode: `0x${bytecode.object}`, deployedBytecode: `0x${deployedBytecode.object}` },
        null,
        1,
      )}\n`;
    }
  }
  return artifacts;
}

function checkCode(name, creation, deployed) {
  if (deployed.length / 2 > MAX_DEPLOYED) throw new Error(`${name}: ${deployed.length / 2} bytes of code`);
  for (const code of [creation, deployed]) {
    const bytes = Buffer.from(code, "hex");
    for (let at = 0; at < bytes.length; at += 1) {
      const opcode = bytes[at];
      if (FORBIDDEN[opcode]) throw new Error(`${name}: ${FORBIDDEN[opcode]} at byte ${at}`);
      // PUSH1 to PUSH32 are followed by data.
      if (opcode >= 0x60 && opcode <= 0x7f) at += opcode - 0x5f;
    }
  }
}

const artifacts = compile();
if (process.argv.includes("--check")) {
  const present = fs.existsSync(OUT) ? fs.readdirSync(OUT).sort() : [];
  const names = [...new Set([...present, ...Object.keys(artifacts)])];
  const differing = names.filter((name) => {
    const file = path.join(OUT, name);
    return !fs.existsSync(file) || fs.readFileSync(file, "utf8") !== artifacts[name];
  });
  if (differing.length > 0) {
    console.error(`out/ is not what the sources compile to: ${differing.join(", ")}; run node build.js`);
    process.exit(1);
  }
} else {
  fs.rmSync(OUT, { recursive: true, force: true });
  fs.mkdirSync(OUT);
  for (const [name, text] of Object.entries(artifacts)) {
    fs.writeFileSync(path.join(OUT, name), text);
    const { deployedBytecode } = JSON.parse(text);
    console.log(`${name}: ${(deployedBytecode.length - 2) / 2} bytes deployed`);
  }
}
