"""Who gets what: flags and experiments decided from a table in memory, the same in every room and in the browser.

`definition` checks what a team writes (YAML) and folds it into one table; `engine` reads a table and decides, without a clock, a network
or a random source of its own; `growthbook` and `unleash` translate the tables of those two products; `provider` is the OpenFeature side.
`edge/board/static/flags.js` reads the same tables.
"""
