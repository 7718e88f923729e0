// Reads questions as JSON from standard input, answers them with edge/board/static/flags.js, whose address is the first argument.
import { readFileSync } from "node:fs";

const { Pattern, Table, bucket, condition } = await import(process.argv[2]);
const refused = (build) => {
  try {
    return build();
  } catch (error) {
    if (error instanceof SyntaxError) return "refused";
    throw error;
  }
};
const ANSWER = {
  condition: ({ condition: wanted, attributes, groups }) => condition(wanted, groups)(attributes),
  decide: ({ table, flag, context }) => new Table(table).decide(flag, context),
  run: ({ table, flag, context }) => new Table(table).run(flag, context),
  buckets: ({ salt, units }) => units.map((unit) => bucket(salt, unit)),
  search: ({ pattern, text, ignore_case: ignoreCase }) => refused(() => new Pattern(pattern, ignoreCase).search(text)),
  decide_all: ({ table, contexts }) => {
    const read = new Table(table);
    return contexts.map((context) => [...read.flags.keys()].map((flag) => read.decide(flag, context).value));
  },
};
const questions = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(questions.map((question) => ANSWER[question.ask](question))));
