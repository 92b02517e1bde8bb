"""Makes what the engines serve, offline: `weights.py FOLDER` writes models/tiny-a, models/tiny-b, lora/red and lora/blue.

The weights are noise, and so is what the models say; everything else about them is real: tokens, caches, streams. The two
models have one shape, so that an engine can change from one to the other while it runs.
"""

import json
import pathlib
import shutil
import sys

import safetensors.torch
import tokenizers
import torch
import transformers

HIDDEN, LAYERS, HEADS, KV_HEADS, RANK = 128, 2, 4, 2, 8
CONTEXT = 32768
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# A tokenizer learns its merges from this: words in it become a token or two, others more.
TEXT = """
A cache that is found is a prompt that is not computed. The scheduler asks which worker holds the most of it, and how long
the others would take. Every answer tells how many tokens were cached, so that what is believed can be held against what is true.
Question: why is a tree a good index of prompts? Answer: because prompts that begin alike share a path from the root.
Please write a short summary of the following document, then list three open questions about it, one on each line.
The user of the system is a person in a hurry; be brief, be kind, and say so when you do not know.
{"role": "user", "content": "What is in the document?", "tools": [{"name": "lookup", "arguments": {"id": 17}}]}
for word in text.split(): count[word] = count.get(word, 0) + 1
0 1 2 3 4 5 6 7 8 9 10 20 50 100 256 500 1000 1024 2048 4096
"""

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def make_tokenizer():
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=768, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer, seed):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    for weight in model.parameters():
        if weight.dim() > 1:  # norms stay as they are
            torch.nn.init.normal_(weight, std=0.05)
    return model


def write_adapter(folder, seed):
    torch.manual_seed(seed)
    tensors = {}
    for layer in range(LAYERS):
        for name, heads in ("q_proj", HEADS), ("v_proj", KV_HEADS):
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[at + ".lora_A.weight"] = torch.randn(RANK, HIDDEN) / 2
            tensors[at + ".lora_B.weight"] = torch.randn(heads * HIDDEN // HEADS, RANK) / 2
    folder.mkdir(parents=True)
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": 0.0, "bias": "none"}
    config |= {"base_model_name_or_path": "tiny", "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def main():
    home = pathlib.Path(sys.argv[1])
    for folder in "models", "lora":
        shutil.rmtree(home / folder, ignore_errors=True)
    tokenizer = make_tokenizer()
    for seed, name in enumerate(("tiny-a", "tiny-b"), 1):
        make_model(tokenizer, seed).save_pretrained(home / "models" / name)
        tokenizer.save_pretrained(home / "models" / name)
    for seed, name in enumerate(("red", "blue"), 1):
        write_adapter(home / "lora" / name, seed)
    print(f"made two models of {len(tokenizer)} tokens and two adapters")


if __name__ == "__main__":
    main()
