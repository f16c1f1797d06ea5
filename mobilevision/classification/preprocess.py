from mobilevision.classification.types import CROP_SHARE
class EvalTransform:
    def __init__(self, input_size, *, crop="short_side", share=CROP_SHARE): self.input_size=input_size
