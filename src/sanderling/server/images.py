"""Whether an image that a deployment names is there, as far as this server can know."""

from difflib import get_close_matches

from sanderling.errors import NotFound
from sanderling.oci import Reference
from sanderling.registry import Registry, is_companion


class ImageMissing(NotFound):
    """A deployment names an image of this server's registry that is not there."""

    def __init__(self, image: str, there_is: str) -> None:
        super().__init__(f"image {image} is not in this server's registry; {there_is}")
        self.image = image


class ImageCheck:
    """Checks references to our own registry. Images of other registries are the device's to find."""

    def __init__(self, registry: Registry, login_server: str) -> None:
        self._registry, self._login_server = registry, login_server

    def __call__(self, image: str) -> None:
        """Raise ImageMissing, which says what is there instead, or Invalid for what is no reference."""
        reference = Reference.parse(image)
        if reference.registry != self._login_server:
            return
        wanted = reference.digest or reference.tag or "latest"
        if self._registry.find_image(reference.repository, wanted) is None:
            if self._registry.is_pulled_through(reference.repository):
                return  # as with other registries: the device's pull brings it here
            raise ImageMissing(image, self._what_is_there(reference.repository))

    def _what_is_there(self, repository: str) -> str:
        names = self._registry.repositories()
        if repository in names:
            tags = [tag.name for tag in self._registry.tags(repository) if not is_companion(tag.name)][:8]
            if tags:
                return f"'{repository}' has the tags {', '.join(tags)}: name one of them, or build and push the image"
            return f"'{repository}' has no tags: name the image by digest, or build and push it"
        near = get_close_matches(repository, names, n=3) or names[:3]
        if near:
            return f"there is {', '.join(near)}: correct the name, or build and push the image first"
        return "the registry is empty: build the image with 'sanderling image build', or push it, first"
