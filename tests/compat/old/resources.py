"""A resource that is set up before tasks, and cleaned up after them."""

from prefect import Flow, resource_manager, task


@resource_manager
class Folder:
    def __init__(self, name):
        self.name = name

    def setup(self):
        return [self.name]

    def cleanup(self, folder):
        assert folder == [self.name]


@task
def fill(folder, file):
    return [*folder, file]


@task
def name_of():
    return "tmp"


with Flow("resources") as flow:
    context = Folder(name_of())
    with context as folder:
        filled = fill(folder, "a.txt")
    made = context.init_task

EXPECTED = {"Folder.setup": ["tmp"], "fill": ["tmp", "a.txt"], "Folder.cleanup": None}
