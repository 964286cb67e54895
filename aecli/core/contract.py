"""What is raised if a variant gives the program something else than it needs."""

from __future__ import annotations


class ContractError(TypeError):
    """`rule` says what a variant is to do, `help` how. `module` is the variant's, for whoever tells the user which file it is;
    empty if what found the breach had only a part of the variant in hand."""

    def __init__(self, message: str, rule: str, help: str, module: str = "") -> None:
        super().__init__(message)
        self.rule, self.help, self.module = rule, help, module
