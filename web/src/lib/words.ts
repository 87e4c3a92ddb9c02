/** What stands between spaces and commas. */
export const words = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);
