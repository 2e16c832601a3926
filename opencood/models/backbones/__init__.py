"""Bird's-eye-view networks that every stage uses: backbones, necks, aligners, crops."""
