import pytest

from mobilevision.segmentation.layouts import VOC_CLASSES, MaskFolders, VocLayout, find_files


def test_there_are_21_classes_in_the_order_of_the_devkit():
    assert len(VOC_CLASSES) == 21
    assert (VOC_CLASSES[0], VOC_CLASSES[1], VOC_CLASSES[15], VOC_CLASSES[20]) == (
        "background",
        "aeroplane",
        "person",
        "tvmonitor",
    )


@pytest.mark.parametrize("home", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_root_may_be_the_folder_or_what_it_came_in(tmp_path, write_voc, home):
    write_voc(tmp_path / home, val=2)
    pairs = VocLayout(tmp_path).find_pairs("val")
    assert [pair.image for pair in pairs] == [tmp_path / home / "JPEGImages" / f"val_{index}.jpg" for index in range(2)]
    assert [pair.mask.name for pair in pairs] == ["val_0.png", "val_1.png"]


def test_folders_may_lie_anywhere(tmp_path, write_voc):
    home = write_voc(tmp_path / "data", val=1)
    (home / "SegmentationClass").rename(tmp_path / "elsewhere")
    (home / "JPEGImages").rename(home / "images")
    layout = VocLayout(home, image_dir="images", mask_dir=str(tmp_path / "elsewhere"))
    assert layout.find_pairs("val")[0].mask == tmp_path / "elsewhere" / "val_0.png"


def test_everything_that_is_missing_is_named_with_what_is_expected(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        VocLayout(tmp_path).find_pairs("val")
    missing, expected = str(caught.value).split(" not found: expected ")
    assert missing == f"{tmp_path}/ImageSets/Segmentation/val.txt, {tmp_path}/SegmentationClass"
    assert f"{tmp_path}/JPEGImages/ID.jpg" in expected
    assert f"{tmp_path}/SegmentationClass/ID.png" in expected


def test_everything_that_a_list_names_and_is_missing_is_listed(tmp_path, write_voc):
    write_voc(tmp_path, val=9)
    for index in (1, 2, 4, 5, 8):
        (tmp_path / "JPEGImages" / f"val_{index}.jpg").unlink()
    (tmp_path / "SegmentationClass" / "val_3.png").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        VocLayout(tmp_path).find_pairs("val")
    images = ", ".join(f"{tmp_path}/JPEGImages/val_{index}.jpg" for index in (1, 2, 4, 5, 8))
    assert str(caught.value) == (
        f"{tmp_path}/ImageSets/Segmentation/val.txt: 5 images missing: {images}; "
        f"1 masks missing: {tmp_path}/SegmentationClass/val_3.png"
    )


def test_what_there_is_is_listed_beside_what_is_missing(tmp_path, write_voc):
    write_voc(tmp_path, val=3)
    (tmp_path / "SegmentationClass" / "val_1.png").unlink()
    files = VocLayout(tmp_path).list_pairs("val")
    assert [pair.image.stem for pair in files.pairs] == ["val_0", "val_2"]
    assert files.without_mask == (tmp_path / "SegmentationClass" / "val_1.png",)
    assert files.without_image == ()


def test_files_of_ids_are_all_listed_where_they_are_missing(tmp_path):
    (tmp_path / "b.png").touch()
    with pytest.raises(FileNotFoundError, match=f"^3 of 4 files are missing in {tmp_path}: a.png, c.png, d.png$"):
        find_files(tmp_path, ["a", "b", "c", "d"])


def test_images_without_a_png_get_sbds_mask(tmp_path, write_voc):
    home = write_voc(tmp_path, train_aug=3)
    (home / "cls").mkdir()
    for name in ("train_aug_0", "train_aug_1"):
        (home / "cls" / f"{name}.mat").touch()
    (home / "SegmentationClass" / "train_aug_1.png").unlink()
    pairs = VocLayout(home, sbd_dir="cls").find_pairs("train_aug")
    assert [pair.mask.relative_to(home).as_posix() for pair in pairs] == [
        "SegmentationClass/train_aug_0.png",
        "cls/train_aug_1.mat",
        "SegmentationClass/train_aug_2.png",
    ]
    (home / "cls" / "train_aug_1.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 masks missing: .*SegmentationClass/train_aug_1\.png"):
        VocLayout(home, sbd_dir="cls").find_pairs("train_aug")
    with pytest.raises(FileNotFoundError, match=r"nowhere not found: expected SBD's folder cls with ID\.mat"):
        VocLayout(home, sbd_dir="nowhere").find_pairs("train_aug")


def test_masks_are_found_without_their_images(tmp_path, write_voc):
    write_voc(tmp_path, val=2)
    for image in (tmp_path / "JPEGImages").iterdir():
        image.unlink()
    assert list(VocLayout(tmp_path).find_masks("val")) == ["val_0", "val_1"]


def test_an_empty_list_is_named(tmp_path, write_voc):
    write_voc(tmp_path, val=1)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt must name one image on every line, but it is empty"):
        VocLayout(tmp_path).find_pairs("val")


def test_blank_lines_and_spaces_in_names_are_harmless(tmp_path, write_voc):
    write_voc(tmp_path, val=1)
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        (tmp_path / folder / f"val_0{suffix}").rename(tmp_path / folder / f"a cat{suffix}")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\na cat \r\n\n")
    assert list(VocLayout(tmp_path).find_masks("val")) == ["a cat"]


def test_no_id_asks_for_no_file(tmp_path):
    assert find_files(tmp_path, []) == []


@pytest.fixture
def touch(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


def relative(pairs, root):
    return [tuple(path.relative_to(root).as_posix() for path in pair) for pair in pairs]


def test_images_and_masks_of_one_name_belong_together(touch):
    root = touch("images/b.JPG", "images/a.png", "masks/a.png", "masks/b.png", "images/notes.txt")
    pairs = MaskFolders(root / "images", root / "masks").find_pairs()
    assert relative(pairs, root) == [("images/a.png", "masks/a.png"), ("images/b.JPG", "masks/b.png")]


def test_cityscapes_suffixes_in_folders_of_cities(touch):
    root = touch(
        "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png",
        "gtFine/val/ulm/ulm_0_gtFine_labelIds.png",
        "gtFine/val/ulm/ulm_0_gtFine_color.png",
    )
    folders = MaskFolders(root / "leftImg8bit/val", root / "gtFine/val", "_leftImg8bit.png", "_gtFine_labelIds.png")
    assert relative(folders.find_pairs(), root) == [
        ("leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", "gtFine/val/ulm/ulm_0_gtFine_labelIds.png")
    ]
    assert folders.list_pairs().without_image == ()


def test_both_may_lie_in_one_folder(touch):
    root = touch("a.png", "a_mask.png", "b.png", "b_mask.png")
    pairs = MaskFolders(root, root, mask_suffix="_mask.png").find_pairs()
    assert relative(pairs, root) == [("a.png", "a_mask.png"), ("b.png", "b_mask.png")]


def test_both_may_lie_in_one_folder_and_differ_in_their_ending_alone(touch):
    root = touch("a.jpg", "a.png", "b.jpg", "b.png")
    pairs = MaskFolders(root, root).find_pairs()
    assert relative(pairs, root) == [("a.jpg", "a.png"), ("b.jpg", "b.png")]


def test_two_images_of_one_name_are_refused(touch):
    root = touch("images/a.jpg", "images/a.webp", "masks/a.png")
    with pytest.raises(ValueError, match=r"names must differ in more than their ending, got .*a\.jpg and .*a\.webp"):
        MaskFolders(root / "images", root / "masks").find_pairs()


def test_images_without_masks_are_all_named(touch):
    root = touch("images/a.jpg", "images/b.jpg", "images/sub/c.jpg", "masks/b.png", "masks/d.png")
    folders = MaskFolders(root / "images", root / "masks")
    with pytest.raises(FileNotFoundError, match=rf"2 masks missing: {root}/masks/a\.png, {root}/masks/sub/c\.png$"):
        folders.find_pairs()
    files = folders.list_pairs()
    assert relative(files.pairs, root) == [("images/b.jpg", "masks/b.png")]
    assert files.without_image == (root / "masks/d.png",)


def test_a_mask_without_an_image_does_no_harm(touch):
    root = touch("images/a.jpg", "masks/a.png", "masks/b.png")
    assert len(MaskFolders(root / "images", root / "masks").find_pairs()) == 1


def test_missing_folders_are_named_with_what_is_expected(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/x, {tmp_path}/y not found: expected {tmp_path}/x/NAME\.jpg"
    ):
        MaskFolders(tmp_path / "x", tmp_path / "y").find_pairs()


def test_a_folder_without_images_is_named(touch):
    root = touch("images/a.txt", "masks/a.png")
    with pytest.raises(FileNotFoundError, match=r"images holds no images called NAME\.jpg"):
        MaskFolders(root / "images", root / "masks").find_pairs()


def test_masks_of_any_suffix_are_found_and_a_png_goes_before(touch):
    root = touch(
        "images/a.JPG", "images/b.jfif", "images/c.png", "masks/a.PNG", "masks/b.bmp", "masks/c.png", "masks/c.gif"
    )
    pairs = MaskFolders(root / "images", root / "masks").find_pairs()
    assert relative(pairs, root) == [
        ("images/a.JPG", "masks/a.PNG"),
        ("images/b.jfif", "masks/b.bmp"),
        ("images/c.png", "masks/c.png"),
    ]


def test_hidden_files_are_counted_and_left_out(touch):
    root = touch("images/a.jpg", "images/._a.jpg", "masks/a.png", "masks/.ipynb_checkpoints/a.png")
    with pytest.warns(UserWarning, match=r"1 files in .*(images|masks) are left out.*: 1 hidden"):
        assert relative(MaskFolders(root / "images", root / "masks").find_pairs(), root) == [
            ("images/a.jpg", "masks/a.png")
        ]


def test_masks_that_share_no_name_with_an_image_name_the_option(touch):
    root = touch("images/a.jpg", "masks/a_mask.gif")
    with pytest.raises(FileNotFoundError, match=r"no image has a mask: .*such as .*a_mask\.gif; .*data\.mask_suffix"):
        MaskFolders(root / "images", root / "masks").find_pairs()


def test_vocs_files_may_have_another_suffix(tmp_path, write_voc):
    home = write_voc(tmp_path, val=1)
    (home / "JPEGImages/val_0.jpg").rename(home / "JPEGImages/val_0.JPEG")
    (home / "SegmentationClass/val_0.png").rename(home / "SegmentationClass/val_0.PNG")
    assert [path.name for path in VocLayout(home).find_pairs("val")[0]] == ["val_0.JPEG", "val_0.PNG"]
    assert VocLayout(home).find_masks("val")["val_0"].name == "val_0.PNG"
