// Sends one message with nodemailer: takes { transport, mail } as JSON on stdin, prints the dialogue as curl does.
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";

const arrows = { client: "> ", server: "< " };
const print = ({ tnx }, text) => {
  if (tnx in arrows) text.split(/\r?\n/).forEach((line) => console.log(arrows[tnx] + line));
};
const logger = Object.fromEntries(["trace", "debug", "info", "warn", "error", "fatal"].map((level) => [level, print]));

const { transport, mail } = JSON.parse(readFileSync(0, "utf8"));
try {
  await nodemailer.createTransport({ ...transport, logger, debug: true }).sendMail(mail);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
