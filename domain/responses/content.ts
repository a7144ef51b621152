import { z } from 'zod';
import { imageDetail, imageUrl } from '../chat.ts';

const inputText = z.looseObject({ type: z.literal('input_text'), text: z.string() });
const inputImage = z.looseObject({
  type: z.literal('input_image'),
  image_url: imageUrl,
  detail: imageDetail.nullish(),
});
const inputFile = z.looseObject({
  type: z.literal('input_file'),
  file_data: z.string(),
  filename: z.string().nullish(),
});
const inputAudio = z.looseObject({
  type: z.literal('input_audio'),
  input_audio: z.looseObject({ data: z.string(), format: z.enum(['mp3', 'wav']) }),
});

const outputText = z.looseObject({ type: z.literal('output_text'), text: z.string() });
const refusal = z.looseObject({ type: z.literal('refusal'), refusal: z.string() });

const userPart = z.discriminatedUnion('type', [inputText, inputImage, inputFile, inputAudio]);
/** Callers that write an assistant's turn themselves use either kind of text. */
const assistantPart = z.discriminatedUnion('type', [outputText, refusal, inputText]);

export const userContent = z.union([z.string(), z.array(userPart).min(1)]);
export const systemContent = z.union([z.string(), z.array(inputText).min(1)]);
export const assistantContent = z.union([z.string(), z.array(assistantPart)]);
export const toolOutput = z.union([z.string(), z.array(inputText)]);

export type UserContent = z.infer<typeof userContent>;
export type SystemContent = z.infer<typeof systemContent>;
export type AssistantContent = z.infer<typeof assistantContent>;
export type ToolOutput = z.infer<typeof toolOutput>;
