#!/bin/sh
# The official image's entrypoint: a model's name and place come from the environment. It does not exec either.
tensorflow_model_server --port=8500 --rest_api_port=8501 \
  --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
