// Sends messages with nodemailer: takes { transport, mail } or { transport, mails } as JSON on stdin, prints the dialogue
// as curl does.
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";

const arrows = { client: "> ", server: "< " };
const print = ({ tnx }, text) => {
  if (tnx in arrows) text.split(/\r?\n/).forEach((line) => console.log(arrows[tnx] + line));
};
const logger = Object.fromEntries(["trace", "debug", "info", "warn", "error", "fatal"].map((level) => [level, print]));

const { transport, mail, mails = [mail] } = JSON.parse(readFileSync(0, "utf8"));
const mailer = nodemailer.createTransport({ ...transport, logger, debug: true });
for (const one of mails) {
  try {
    await mailer.sendMail(one);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
