import pytest
from mobilevision.segmentation.folders import MaskFolders


@pytest.fixture
def touch(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


def names(pairs, root):
    return [tuple(path.relative_to(root).as_posix() for path in pair) for pair in pairs]


def test_pictures_and_masks_of_one_name_belong_together(touch):
    root = touch("images/b.JPG", "images/a.png", "masks/a.png", "masks/b.png", "images/notes.txt", "images/.a.jpg")
    pairs = MaskFolders(root / "images", root / "masks").find_pairs()
    assert names(pairs, root) == [("images/a.png", "masks/a.png"), ("images/b.JPG", "masks/b.png")]


def test_cityscapes_suffixes_in_folders_of_cities(touch):
    root = touch(
        "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png",
        "gtFine/val/ulm/ulm_0_gtFine_labelIds.png",
        "gtFine/val/ulm/ulm_0_gtFine_color.png",
    )
    folders = MaskFolders(root / "leftImg8bit/val", root / "gtFine/val", "_leftImg8bit.png", "_gtFine_labelIds.png")
    assert names(folders.find_pairs(), root) == [
        ("leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", "gtFine/val/ulm/ulm_0_gtFine_labelIds.png")
    ]
    assert folders.list_pairs().without_image == ()


def test_both_may_lie_in_one_folder(touch):
    root = touch("a.png", "a_mask.png", "b.png", "b_mask.png")
    pairs = MaskFolders(root, root, mask_suffix="_mask.png").find_pairs()
    assert names(pairs, root) == [("a.png", "a_mask.png"), ("b.png", "b_mask.png")]


def test_both_may_lie_in_one_folder_and_differ_in_their_ending_alone(touch):
    root = touch("a.jpg", "a.png", "b.jpg", "b.png")
    pairs = MaskFolders(root, root).find_pairs()
    assert names(pairs, root) == [("a.jpg", "a.png"), ("b.jpg", "b.png")]


def test_two_pictures_of_one_name_are_refused(touch):
    root = touch("images/a.jpg", "images/a.webp", "masks/a.png")
    with pytest.raises(ValueError, match=r"names must differ in more than their ending, got .*a\.jpg and .*a\.webp"):
        MaskFolders(root / "images", root / "masks").find_pairs()


def test_pictures_without_masks_are_all_named(touch):
    root = touch("images/a.jpg", "images/b.jpg", "images/sub/c.jpg", "masks/b.png", "masks/d.png")
    folders = MaskFolders(root / "images", root / "masks")
    with pytest.raises(FileNotFoundError, match=rf"2 masks missing: {root}/masks/a\.png, {root}/masks/sub/c\.png$"):
        folders.find_pairs()
    listing = folders.list_pairs()
    assert names(listing.pairs, root) == [("images/b.jpg", "masks/b.png")]
    assert listing.without_image == (root / "masks/d.png",)


def test_a_mask_without_a_picture_does_no_harm(touch):
    root = touch("images/a.jpg", "masks/a.png", "masks/b.png")
    assert len(MaskFolders(root / "images", root / "masks").find_pairs()) == 1


def test_missing_folders_are_named_with_what_is_expected(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/x, {tmp_path}/y not found: expected {tmp_path}/x/NAME\.jpg"
    ):
        MaskFolders(tmp_path / "x", tmp_path / "y").find_pairs()


def test_a_folder_without_pictures_is_named(touch):
    root = touch("images/a.txt", "masks/a.png")
    with pytest.raises(FileNotFoundError, match=r"images holds no pictures called NAME\.jpg"):
        MaskFolders(root / "images", root / "masks").find_pairs()
