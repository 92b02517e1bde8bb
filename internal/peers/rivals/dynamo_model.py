"""Makes the folder that Dynamo takes for a model: a tokenizer and a configuration, no weights, no model hub.

dynamo_model.py FOLDER. It runs in Dynamo's own environment. The tokenizer is a byte-level BPE, trained on made-up words until
text has about four bytes a token, as English has with a tokenizer of production.
"""

import json
import pathlib
import random
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LONGEST = 1 << 25
VOCABULARY = 8000  # four bytes a token on such text


def texts():
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(4096)]
    return [" ".join(rng.choices(words, k=400)) for _ in range(400)]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    model = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": LONGEST, "bos_token_id": 0, "eos_token_id": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "torch_dtype": "bfloat16", "tie_word_embeddings": True,
    }
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "pad_token": SPECIAL[0],
        "model_max_length": LONGEST, "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
    }
    files = {"config": model, "generation_config": {"bos_token_id": 0, "eos_token_id": 2, "max_new_tokens": 4096}, "tokenizer_config": words}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
