"""JupyterLab as `make lab` starts it: what is on disk is what nbdev_clean leaves, and opening a page does not change it.

JupyterLab writes the kernel's name and language into every notebook that it opens, nbdev_clean takes them out again, and the
language has Python's version in it, so no committed notebook could hold what every reader's JupyterLab would write. Hence both
are filled in as a page is read, and what JupyterLab saves is cleaned before it is written.
"""
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelspec import KERNEL_NAME
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbdev.clean import clean_jupyter

spec = KernelSpecManager().get_kernel_spec(KERNEL_NAME)
KERNEL = {"kernelspec": {"display_name": spec.display_name, "language": spec.language, "name": KERNEL_NAME},
          "language_info": IPythonKernel.language_info}


class Pages(AsyncLargeFileManager):
    async def get(self, path, *args, **kwargs):
        model = await super().get(path, *args, **kwargs)
        if model["type"] == "notebook" and model["content"]: model["content"]["metadata"].update(KERNEL)
        return model


c = get_config()  # noqa: F821, Jupyter defines it
c.ServerApp.contents_manager_class = Pages
c.FileContentsManager.pre_save_hook = clean_jupyter
